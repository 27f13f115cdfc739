// A program over node-zookeeper-client: does one thing after the other and prints what came of each.
//
// usage: node client.js HOSTS PATH. After "cut me" it waits for a line on stdin, while the test breaks
// the connection and changes PATH/watched.
'use strict';

const zookeeper = require('node-zookeeper-client');
const readline = require('readline');

const [hosts, root] = process.argv.slice(2);
const client = zookeeper.createClient(hosts, {sessionTimeout: 10000, retries: 3});

// A call of the client as a promise of [error name or null, results].
function call(method, ...args) {
  return new Promise((resolve) => {
    client[method](...args, (error, ...results) => resolve([error ? error.name : null, ...results]));
  });
}

function say(...words) {
  console.log(words.join(' '));
}

const short = (path) => path.slice(root.length);

async function createAndGet() {
  say('create', short((await call('create', `${root}/a`, Buffer.from('one')))[1]));
  say('create again', (await call('create', `${root}/a`))[0]);
  const mode = zookeeper.CreateMode.EPHEMERAL_SEQUENTIAL;
  say('create', short((await call('create', `${root}/s-`, null, mode))[1]));
  let [error, data, stat] = await call('getData', `${root}/a`);
  say('get', error, data, 'version', stat.version);
  [error, stat] = await call('setData', `${root}/a`, Buffer.from('two!'), 0);
  say('set', error, 'version', stat.version, 'length', stat.dataLength);
  say('set', (await call('setData', `${root}/a`, Buffer.from('x'), 0))[0]);
  [error, data] = await call('getChildren', root);
  say('children', error, data);
  say('mkdirp', short((await call('mkdirp', `${root}/x/y/z`))[1]));
  say('remove', (await call('remove', `${root}/x`))[0]);
  [error, data] = await call('getACL', root);
  say('acl', error, data[0].id.scheme, data[0].id.id, data[0].permission);
}

function transaction(operations) {
  return new Promise((resolve) => {
    const all = client.transaction();
    operations.forEach(([method, ...args]) => all[method](...args));
    all.commit((error) => resolve(error ? error.name : null));
  });
}

async function multis() {
  say('transaction', await transaction([
    ['create', `${root}/m`], ['setData', `${root}/m`, Buffer.from('y'), 0], ['remove', `${root}/m`, 1],
  ]));
  say('transaction', await transaction([['create', `${root}/m`], ['check', `${root}/a`, 7]]));
  say('exists', (await call('exists', `${root}/m`))[1] !== null);
}

// Resolves twice over: [when the watch is set, when its event has come].
function watch(method, path) {
  let armed;
  const seen = new Promise((resolve) => {
    armed = new Promise((done) => {
      client[method](path, (event) => resolve(`${event.getName()} ${short(event.getPath())}`), done);
    });
  });
  return [armed, seen];
}

async function watches() {
  const [armed, seen] = watch('exists', `${root}/w`);
  await armed;
  await call('create', `${root}/w`);
  say('event', await seen);
}

async function cut() {
  const session = client.getSessionId().toString('hex');
  await call('create', `${root}/watched`, Buffer.from('old'));
  const [armed, seen] = watch('getData', `${root}/watched`);
  await armed;
  say('cut me');
  const input = readline.createInterface({input: process.stdin});
  await new Promise((resolve) => input.once('line', resolve));
  say('event', await seen);
  let result;
  do {
    result = await call('getData', `${root}/watched`);
  } while (result[0] === 'CONNECTION_LOSS');
  say('get', result[0], result[1]);
  say('same session', session === client.getSessionId().toString('hex'));
  say('ephemeral', (await call('exists', `${root}/s-0000000001`))[1] !== null);
}

client.once('connected', async () => {
  await createAndGet();
  await multis();
  await watches();
  await cut();
  client.once('disconnected', () => process.exit(0));
  client.close();
});
client.connect();
