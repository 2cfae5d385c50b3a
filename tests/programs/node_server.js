// An HTTPS server of Node, which has OpenSSL linked in and moves its bytes itself: port, certificate, key.
const https = require("https");
const fs = require("fs");

const [port, certificate, key] = process.argv.slice(2);
const answer = (request, response) => setTimeout(() => response.writeHead(202).end("ok"), 10);
https
  .createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, answer)
  .listen(Number(port), "127.0.0.1");
