// An HTTP/2 server in the clear: /wait/MS/... answers after so many milliseconds, /status/CODE/... with that status.
const http2 = require("http2");

http2
  .createServer((request, response) => {
    const [, what, number] = request.url.split("/");
    const status = what === "status" ? Number(number) : 200;
    setTimeout(() => response.writeHead(status).end("done\n"), what === "wait" ? Number(number) : 0);
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
