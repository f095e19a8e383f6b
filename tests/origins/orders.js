// A shop that never closes, as orders.c: node orders.js accept|ignore|connect N PORT. Node accepts
// and reads in its event loop, before any function of the program is called; it connects from the
// program's function where that knows the address at once (a cache of names, say).
'use strict';
const net = require('node:net');

const [how, count, port] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const kept = [];

function lookup(_name, options, found) {
  if (options.all) found(null, [{ address: '127.0.0.1', family: 4 }]);
  else found(null, '127.0.0.1', 4);
}

function fetchPage(connection) {
  kept.push(connection);
  connection.on('error', (e) => console.error(e));
  // Its half stays open when the peer's ends.
  connection.resume();
}

function takeOrder(connection) {
  kept.push(connection);
  if (how === 'accept') fetchPage(connection);
  // Node reads ahead until it is told not to.
  else connection.pause();
}

function dialSupplier() {
  return net.connect({ host: 'supplier.test', port, lookup, family: 4, allowHalfOpen: true });
}

function dialSuppliers() {
  for (let i = 0; i < count; i++) fetchPage(dialSupplier());
}

if (how === 'connect') {
  dialSuppliers();
  console.log('ready', port, process.pid);
} else {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: how === 'ignore' }, takeOrder);
  server.listen(port, '127.0.0.1', () => console.log('ready', server.address().port, process.pid));
}
process.stdin.resume();
