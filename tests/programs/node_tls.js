// Node over TLS: `server VERSION PORT` or `client VERSION PORT COUNT`, where VERSION is https (HTTP/1.1) or http2, with
// cert.pem and key.pem in the current folder. The client prints each path that it asked for, and its port.
const fs = require("fs");
const http2 = require("http2");
const https = require("https");

const [role, version, port, count] = process.argv.slice(2);
const tls = { cert: fs.readFileSync("cert.pem"), key: fs.readFileSync("key.pem"), rejectUnauthorized: false };
const answer = (request, response) => setTimeout(() => response.writeHead(202).end("ok"), 5);

const oneByHttps = (agent) => (path) =>
  new Promise((resolve, reject) => {
    const asked = https.get({ host: "127.0.0.1", port, path, agent, rejectUnauthorized: false }, (response) => {
      const own = response.socket.localPort;
      response.on("end", () => resolve(`${path} ${own}`)).resume();
    });
    asked.on("error", reject);
  });
const oneByHttp2 = (session) => (path) =>
  new Promise((resolve, reject) => {
    const request = session.request({ ":path": path });
    let own = 0;
    request.on("response", () => (own = session.socket.localPort));
    request.on("error", reject).on("close", () => resolve(`${path} ${own}`)).resume();
  });

const client = async () => {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 4 });
  const session = version === "http2" ? http2.connect(`https://127.0.0.1:${port}`, tls) : null;
  const get = session ? oneByHttp2(session) : oneByHttps(agent);
  const paths = Array.from({ length: Number(count) }, (_, n) => `/${version}/${n}`);
  for (const line of await Promise.all(paths.map(get))) console.log(line);
  agent.destroy();
  session?.close();
};

if (role === "client") client();
else if (version === "http2") http2.createSecureServer(tls, answer).listen(Number(port), "127.0.0.1");
else https.createServer(tls, answer).listen(Number(port), "127.0.0.1");
