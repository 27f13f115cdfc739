/* A program over Apache's C client: does one thing after the other and prints what came of each.
 *
 * usage: client HOSTS PATH. After "cut me" it waits for a line on stdin; meanwhile the test breaks the
 * connection and changes PATH/watched, so that the watch must be set again by the client (setWatches).
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define SECONDS_MAX 30

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int connected;
static int events;

static void global_watch(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    (void)zh, (void)path, (void)context;
    if (type != ZOO_SESSION_EVENT)
        return;
    pthread_mutex_lock(&lock);
    connected = state == ZOO_CONNECTED_STATE;
    if (state == ZOO_EXPIRED_SESSION_STATE)
        printf("expired\n");
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void node_watch(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    (void)zh, (void)state;
    if (type == ZOO_SESSION_EVENT)
        return; /* every watcher is told of the connection too */
    pthread_mutex_lock(&lock);
    printf("event %s type %d %s\n", (const char *)context, type, strrchr(path, '/'));
    fflush(stdout);
    events++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Wait until *value is at least `least`; ends the program after SECONDS_MAX. */
static void await(const int *value, int least, const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SECONDS_MAX;
    pthread_mutex_lock(&lock);
    while (*value < least)
        if (pthread_cond_timedwait(&changed, &lock, &until)) {
            printf("no %s\n", what);
            exit(1);
        }
    pthread_mutex_unlock(&lock);
}

static char *at(const char *root, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s%s", root, name);
    return path;
}

static void create_and_get(zhandle_t *zh, const char *root)
{
    char made[512], data[64];
    int length = sizeof data;
    struct Stat stat;
    int rc = zoo_create(zh, at(root, "/a"), "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    printf("create %d\n", rc);
    rc = zoo_create(zh, at(root, "/a"), "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    printf("create again %d\n", rc);
    rc = zoo_create2(zh, at(root, "/s-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE | ZOO_EPHEMERAL,
                     made, sizeof made, &stat);
    printf("create2 %d %s owned %d\n", rc, strrchr(made, '/'), stat.ephemeralOwner != 0);
    rc = zoo_get(zh, at(root, "/a"), 0, data, &length, &stat);
    printf("get %d %.*s version %d\n", rc, length, data, stat.version);
    rc = zoo_set2(zh, at(root, "/a"), "two!", 4, 0, &stat);
    printf("set %d version %d length %d\n", rc, stat.version, stat.dataLength);
    printf("set, bad version %d\n", zoo_set(zh, at(root, "/a"), "x", 1, 0));
    rc = zoo_create(zh, at(root, "/null"), NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    length = sizeof data;
    printf("null data %d", rc);
    rc = zoo_get(zh, at(root, "/null"), 0, data, &length, &stat);
    printf(" %d length %d\n", rc, length);
    printf("delete %d\n", zoo_delete(zh, at(root, "/null"), -1));
    printf("exists %d\n", zoo_exists(zh, at(root, "/null"), 0, &stat));
}

static void lists(zhandle_t *zh, const char *root)
{
    struct String_vector names;
    struct ACL_vector acl;
    struct Stat stat;
    int rc = zoo_get_children2(zh, root, 0, &names, &stat);
    printf("children %d:", rc);
    for (int i = 0; i < names.count; i++)
        printf(" %s", names.data[i]);
    printf(" of %d\n", stat.numChildren);
    deallocate_String_vector(&names);
    rc = zoo_get_acl(zh, root, &acl, &stat);
    printf("acl %d %s:%s:%d\n", rc, acl.data[0].id.scheme, acl.data[0].id.id, acl.data[0].perms);
    deallocate_ACL_vector(&acl);
}

static void multis(zhandle_t *zh, const char *root)
{
    char made[512];
    struct Stat stat;
    zoo_op_t ops[3];
    zoo_op_result_t results[3];
    zoo_create_op_init(&ops[0], at(root, "/m"), "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    zoo_set_op_init(&ops[1], at(root, "/m"), "y", 1, 0, &stat);
    zoo_delete_op_init(&ops[2], at(root, "/m"), 1);
    int rc = zoo_multi(zh, 3, ops, results);
    printf("multi %d: %d %d %d\n", rc, results[0].err, results[1].err, results[2].err);
    zoo_check_op_init(&ops[1], at(root, "/a"), 7);
    rc = zoo_multi(zh, 3, ops, results);
    printf("failed multi %d: %d %d %d\n", rc, results[0].err, results[1].err, results[2].err);
}

static void watches(zhandle_t *zh, const char *root)
{
    struct Stat stat;
    zoo_wexists(zh, at(root, "/w"), node_watch, "exists", &stat);
    zoo_create(zh, at(root, "/w"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    await(&events, 1, "event of the create");
    zoo_wexists(zh, at(root, "/w"), node_watch, "exists", &stat);
    zoo_delete(zh, at(root, "/w"), -1);
    await(&events, 2, "event of the delete");
}

static void cut(zhandle_t *zh, const char *root, int seen)
{
    char line[16], data[64];
    int length = sizeof data;
    struct Stat stat;
    int64_t session = zoo_client_id(zh)->client_id;
    zoo_create(zh, at(root, "/watched"), "old", 3, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_wget(zh, at(root, "/watched"), node_watch, "get", data, &length, &stat);
    printf("cut me\n");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(1);
    await(&events, seen + 1, "event after the cut");
    await(&connected, 1, "connection after the cut");
    int rc;
    do {
        length = sizeof data;
        rc = zoo_get(zh, at(root, "/watched"), 0, data, &length, &stat);
    } while (rc == ZCONNECTIONLOSS);
    printf("get %d %.*s\n", rc, length, data);
    printf("same session %d\n", session == zoo_client_id(zh)->client_id);
    printf("ephemeral %d\n", zoo_exists(zh, at(root, "/s-0000000001"), 0, &stat));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    zhandle_t *zh = zookeeper_init(argv[1], global_watch, 10000, NULL, NULL, 0);
    if (!zh)
        return 1;
    await(&connected, 1, "connection");
    create_and_get(zh, argv[2]);
    lists(zh, argv[2]);
    multis(zh, argv[2]);
    watches(zh, argv[2]);
    cut(zh, argv[2], 2);
    printf("close %d\n", zookeeper_close(zh));
    return 0;
}
