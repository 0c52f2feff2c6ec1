// Reads a heap snapshot with memlab; tells, for some types, the largest retained size and a path from the root.
const { getFullHeapFromFile } = require("@memlab/heap-analysis");
const NAMES = ["segment", "server", "conn"];

function path(node) {
  const steps = [];
  for (let at = node; at && at.pathEdge; at = at.pathEdge.fromNode) steps.push(at.pathEdge.fromNode.name);
  return steps;
}

(async () => {
  const heap = await getFullHeapFromFile(process.argv[2]);
  const found = {};
  heap.nodes.forEach((node) => {
    if (NAMES.includes(node.name) && !(found[node.name]?.retained > node.retainedSize))
      found[node.name] = { retained: node.retainedSize, path: path(node) };
  });
  console.log("\n" + JSON.stringify(found));
})();
