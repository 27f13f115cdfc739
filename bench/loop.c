// The inner loop of bench/load.py, for machines that have a C compiler (native.py builds it).
//
// Owns:   nothing but the memory of its connections; sockets and requests are Python's.
// Invariants:
//   1. Closed: a request is sent when a reply has come, and never more than `depth` are unanswered.
//   2. Every reply is looked at: its size, xid and error must be what its request asks for.
//   3. Latency is from the write that carried the request to the read that brought its reply.
// Design: one thread, level-triggered epoll; a lone connection waits in its read instead, a tenth
//   of a second at a time.
//   What a connection receives stays in its buffer until a reply is whole.
// Not here: sessions, requests, accounts of CPU (load.py); the same loop in Python (load.py).
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { HEADER = 20, BUFFER = 1 << 18, EVENTS = 256, POLL_MS = 100, SUB = 128 };

// Of Python: native.py has the same, field by field.
struct connection {
    int32_t fd;
    uint32_t depth, requests, pattern, serials;
    char *block;               // all requests of a round, one behind the other
    const uint32_t *ends;      // where request i ends in the block
    const uint32_t *sizes;     // of the replies, one pattern of them
    const uint32_t *serial_at; // where 8 digits are that each round has to itself
    // From here on the loop's own; zero at first.
    uint64_t sent, answered, round;
    uint64_t *sent_ns; // of the request with number n: [n % depth]
    char *received;
    uint32_t filled;
};

struct fault {
    uint64_t reply; // its number on the connection, from 1
    int32_t size, xid, error, code;
};

enum { CLOSED = 1, WRONG_REPLY, WOULD_BLOCK, SILENT, NO_MEMORY };

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Steps of under 1 %: 128 for each doubling.
static void count_latency(uint64_t *histogram, uint64_t ns) {
    if (ns < SUB) {
        histogram[ns]++;
        return;
    }
    int shift = 63 - __builtin_clzll(ns) - 7;
    histogram[(uint64_t)(shift + 1) * SUB + ((ns >> shift) & (SUB - 1))]++;
}

static void renew(struct connection *c) {
    char digits[24];
    snprintf(digits, sizeof digits, "%08llu", (unsigned long long)(++c->round % 100000000));
    for (uint32_t i = 0; i < c->serials; i++) memcpy(c->block + c->serial_at[i], digits, 8);
}

static int send_all(struct connection *c, const char *bytes, uint32_t size) {
    return send(c->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : WOULD_BLOCK;
}

// The next `count` requests, in at most two writes.
static int send_requests(struct connection *c, uint64_t count, uint64_t now) {
    while (count) {
        uint32_t first = c->sent % c->requests;
        if (!first && c->sent) renew(c);
        uint32_t some = c->requests - first < count ? c->requests - first : (uint32_t)count;
        uint32_t begin = first ? c->ends[first - 1] : 0;
        for (uint32_t i = 0; i < some; i++) c->sent_ns[(c->sent + i) % c->depth] = now;
        if (send_all(c, c->block + begin, c->ends[first + some - 1] - begin)) return WOULD_BLOCK;
        c->sent += some;
        count -= some;
    }
    return 0;
}

static uint32_t big_endian(const char *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return be32toh(value);
}

// Take the whole replies out of what was received; returns how many, or -1.
static int64_t take_replies(struct connection *c, uint64_t now, uint64_t *histogram,
                            struct fault *fault) {
    uint32_t at = 0;
    int64_t taken = 0;
    while (c->filled - at >= HEADER) {
        const char *reply = c->received + at;
        uint32_t size = big_endian(reply) + 4, expected = c->sizes[c->answered % c->pattern];
        uint32_t xid = big_endian(reply + 4), error = big_endian(reply + 16);
        if (size != expected || error || xid != c->answered % c->requests + 1) {
            *fault = (struct fault){c->answered + 1, (int32_t)size, (int32_t)xid, (int32_t)error,
                                    WRONG_REPLY};
            return -1;
        }
        if (c->filled - at < size) break;
        count_latency(histogram, now - c->sent_ns[c->answered % c->depth]);
        c->answered++;
        taken++;
        at += size;
    }
    c->filled -= at;
    memmove(c->received, c->received + at, c->filled);
    return taken;
}

// One read, and as many requests as replies came; returns the replies, or -1.
static int64_t turn(struct connection *c, uint64_t *histogram, int sending, struct fault *fault) {
    ssize_t size = recv(c->fd, c->received + c->filled, BUFFER - c->filled, 0);
    uint64_t now = now_ns();
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (size <= 0) {
        fault->code = CLOSED;
        return -1;
    }
    c->filled += (uint32_t)size;
    int64_t taken = take_replies(c, now, histogram, fault);
    if (taken > 0 && sending && (fault->code = send_requests(c, (uint64_t)taken, now))) return -1;
    return taken;
}

int load_begin(struct connection *connections, uint32_t count, int poll) {
    for (uint32_t i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->received = malloc(BUFFER);
        c->sent_ns = calloc(c->depth, sizeof *c->sent_ns);
        if (!c->received || !c->sent_ns) return NO_MEMORY;
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event)) return CLOSED;
        int code = send_requests(c, c->depth, now_ns());
        if (code) return code;
    }
    return 0;
}

void load_end(struct connection *connections, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        free(connections[i].received);
        free(connections[i].sent_ns);
    }
}

// Until the clock or the count says so, or, not sending, until nothing is unanswered.
// Returns the replies; fault->code is not 0 if something is wrong.
int64_t load_run(struct connection *connections, uint32_t count, int poll, uint64_t window_ns,
                 uint64_t replies_max, uint64_t silence_ns, int sending, uint64_t *histogram,
                 struct fault *fault) {
    struct epoll_event events[EVENTS];
    uint64_t begun = now_ns(), now = begun, last_reply = begun, replies = 0, unanswered = 0;
    for (uint32_t i = 0; i < count; i++) unanswered += connections[i].sent - connections[i].answered;
    while (now - begun < window_ns && replies < replies_max && (sending || replies < unanswered)) {
        int ready = 1;
        events[0].data.u32 = 0;
        if (count > 1) ready = epoll_wait(poll, events, EVENTS, POLL_MS);
        uint64_t before = replies;
        for (int i = 0; i < ready; i++) {
            int64_t taken = turn(&connections[events[i].data.u32], histogram, sending, fault);
            if (taken < 0) return (int64_t)replies;
            replies += (uint64_t)taken;
        }
        now = now_ns();
        if (replies > before) last_reply = now;
        if (now - last_reply > silence_ns) {
            fault->code = SILENT;
            break;
        }
    }
    return (int64_t)replies;
}
