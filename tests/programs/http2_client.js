// An HTTP/2 client in the clear, with one connection: PORT, and groups of paths that are asked for at once, one group
// after the other. A group `@FILE` waits until that file is there; before that it says "waiting".
const fs = require("fs");
const http2 = require("http2");

const [port, ...groups] = process.argv.slice(2);
const session = http2.connect(`http://127.0.0.1:${port}`);

const get = (path) =>
  new Promise((resolve, reject) => {
    const request = session.request({ ":path": path });
    request.on("error", reject).on("close", resolve).resume();
  });
const exists = async (file) => {
  console.log("waiting");
  while (!fs.existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5));
};

(async () => {
  for (const group of groups) {
    if (group.startsWith("@")) await exists(group.slice(1));
    else await Promise.all(group.split(",").map(get));
  }
  session.close();
})();
