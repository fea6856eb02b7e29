/*
 * The interpreter of a fit's expression graph (schema mixwright/graph/1), the same as mixwright.laws.graph.
 * r: a mixture's weights (D); K: the length of a node's value; B: members of the ensemble; q: metric weights.
 */

/** The values of every node at one mixture: a list of Float64Array. Throws on an operation it does not know. */
function evaluateGraph(graph, weights, { tokens = NaN, params = NaN } = {}) {
  if (graph.schema !== "mixwright/graph/1") throw new Error(`unknown graph schema ${graph.schema}`);
  const values = [];
  for (const node of graph.nodes) {
    const args = (node.args || []).map((at) => values[at]);
    values.push(applyNode(node, args, weights, tokens, params));
  }
  return values;
}

const PAIRWISE = {
  add: (a, b) => a + b,
  mul: (a, b) => a * b,
  max: (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.max(a, b)),
  pow: (a, b) => a ** b,
};

function applyNode(node, args, weights, tokens, params) {
  switch (node.op) {
    case "const":
      node.typed ??= Float64Array.from(node.value); // read once: large matrices are asked for at every move of a slider
      return node.typed;
    case "weights":
      return Float64Array.from(weights);
    case "tokens":
      return Float64Array.of(tokens);
    case "params":
      return Float64Array.of(params);
    case "exp":
      return args[0].map(Math.exp);
    case "log":
      return args[0].map(Math.log);
    case "cos":
      return args[0].map(Math.cos);
    case "tile":
      return tileValue(args[0], node.times);
    case "sum":
      return sumBlocks(args[0], node.size || args[0].length);
    case "matmul":
      return matrixTimes(args[0], args[1]);
    case "tree":
      return sumTrees(node, args[0]);
    default:
      if (!PAIRWISE[node.op]) throw new Error(`unknown operation ${node.op} in the fit's graph`);
      return args.reduce((one, other) => pairwise(PAIRWISE[node.op], one, other));
  }
}

function pairwise(apply, one, other) {
  const length = Math.max(one.length, other.length);
  const out = new Float64Array(length);
  for (let k = 0; k < length; k++) out[k] = apply(one[one.length === 1 ? 0 : k], other[other.length === 1 ? 0 : k]);
  return out;
}

function tileValue(value, times) {
  const out = new Float64Array(value.length * times);
  for (let n = 0; n < times; n++) out.set(value, n * value.length);
  return out;
}

function sumBlocks(value, size) {
  const out = new Float64Array(value.length / size);
  for (let k = 0; k < value.length; k++) out[Math.floor(k / size)] += value[k];
  return out;
}

/** A matrix, row by row and as wide as the list is long, times the list. */
function matrixTimes(matrix, list) {
  const out = new Float64Array(matrix.length / list.length);
  for (let k = 0; k < matrix.length; k++) out[Math.floor(k / list.length)] += matrix[k] * list[k % list.length];
  return out;
}

/** Where the right child of every node of a tree node's trees is, and where its trees begin: {right, roots}, found once. */
function readTrees(node) {
  if (!readTrees.known.has(node)) {
    const count = node.value.length / 2;
    const end = Int32Array.from({ length: count }, (_, at) => at + 1);
    const right = new Int32Array(count);
    for (let at = count - 1; at >= 0; at--) {
      if (node.value[2 * at] < 0) continue;
      right[at] = end[at + 1];
      end[at] = end[right[at]];
    }
    const roots = [];
    for (let at = 0; at < count; at = end[at]) roots.push(at);
    readTrees.known.set(node, { right, roots });
  }
  return readTrees.known.get(node);
}
readTrees.known = new WeakMap();

/** The leaves that every tree leads x to, every `size` consecutive trees summed. */
function sumTrees(node, x) {
  const { right, roots } = readTrees(node);
  const leaves = roots.map((root) => {
    let at = root;
    while (node.value[2 * at] >= 0) at = x[node.value[2 * at]] <= node.value[2 * at + 1] ? at + 1 : right[at];
    return node.value[2 * at + 1];
  });
  return sumBlocks(leaves, node.size || leaves.length);
}

/** What a fit says of one mixture: {metric: {mean, spread, members, scale}}. */
function predictLosses(fit, weights) {
  const values = evaluateGraph(fit.graph, weights);
  const out = Object.create(null);
  for (const metric of fit.metrics) {
    const nodes = fit.graph.outputs[metric];
    out[metric] = {
      mean: values[nodes.mean][0],
      spread: values[nodes.spread][0],
      members: nodes.members === undefined ? null : values[nodes.members],
      scale: nodes.scale === undefined ? 1 : values[nodes.scale][0],
    };
  }
  return out;
}

/**
 * The weighted mean loss at one mixture minus that at a reference, from what `predictLosses` gave for both: {mean, spread}.
 * Every member is compared with itself, so errors of level cancel; the law's misfit cancels as far as the mixtures are alike.
 */
function lossDifference(fit, here, reference, apart, weights) {
  const used = fit.metrics.map((metric, n) => [metric, weights[n], n]).filter(([, q]) => q > 0);
  const gap = used.reduce((total, [metric, q]) => total + q * (here[metric].mean - reference[metric].mean), 0);
  const members = used[0] && here[used[0][0]].members ? here[used[0][0]].members.length : 0;
  let variance = 0;
  if (members > 1) {
    const gaps = Array.from({ length: members }, (_, b) =>
      used.reduce((total, [metric, q]) => total + q * (here[metric].members[b] - reference[metric].members[b]), 0),
    );
    const centre = gaps.reduce((a, b) => a + b, 0) / members;
    variance = gaps.reduce((total, value) => total + (value - centre) ** 2, 0) / (members - 1);
  }
  if (fit.misfit && fit.reach) {
    const alike = Math.exp(-apart / fit.reach);
    const part = (said, [metric, q]) => q * said[metric].scale;
    const shared = (one, other) =>
      Math.max(
        0,
        used.reduce(
          (total, a) =>
            total + used.reduce((inner, b) => inner + part(one, a) * part(other, b) * (fit.misfit[a[2]][b[2]] || 0), 0),
          0,
        ),
      );
    variance += Math.max(0, shared(here, here) + shared(reference, reference) - 2 * alike * shared(here, reference));
  }
  return { mean: gap, spread: Math.sqrt(variance) };
}
