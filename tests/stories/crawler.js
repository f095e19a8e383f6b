// Fetches each page that it is told, keeps the response and never reads its body. Says when Node closes a
// connection by itself.
const http = require('node:http');
const lines = require('node:readline').createInterface({ input: process.stdin });

const kept = [];
lines.on('line', (url) => {
  http.get(url, { agent: false }, (response) => {
    if (response.statusCode !== 404) throw new Error(`status ${response.statusCode}`);
    kept.push(response);
    response.socket.on('close', () => console.log('closed'));
    console.log('done');
  });
});
