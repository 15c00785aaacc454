// Reads what `blip graph` prints with Mermaid and with Graphviz: every file of a folder, by its suffix.
//
// Usage: node read_graphs.mjs FOLDER PEER, where PEER is the folder that scripts/peer.sh graphs prints

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, peer] = process.argv.slice(2);
const require = createRequire(join(peer, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)));

const graphviz = await (await load("@viz-js/viz")).instance();
// Mermaid cleans labels with what a browser has. Graphviz takes the same for a browser, so it is loaded before.
const { JSDOM } = require("jsdom");
globalThis.window = new JSDOM("").window;
globalThis.document = window.document;
const { default: mermaid } = await load("mermaid");

// What neither may accept: a reader that accepts everything would say nothing of blip's graphs.
if (await mermaid.parse("flowchart LR\n a[ --> b", { suppressErrors: true })) throw new Error("mermaid accepts anything");
if (graphviz.render("digraph { a -> ").status === "success") throw new Error("graphviz accepts anything");

let read = 0;
for (const name of readdirSync(folder)) {
  const text = readFileSync(join(folder, name), "utf8");
  if (name.endsWith(".mermaid")) {
    await mermaid.parse(text);
  } else if (name.endsWith(".dot")) {
    const drawn = graphviz.render(text, { format: "svg" });
    if (drawn.status !== "success") throw new Error(`${name}: ${JSON.stringify(drawn.errors)}`);
  } else {
    continue;
  }
  read += 1;
}
if (read === 0) throw new Error(`${folder} holds no graph`);
console.log(`graphs: ${read} read by mermaid and graphviz`);
