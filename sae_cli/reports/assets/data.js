"use strict";
// The report's data: JSON, and numbers in one compressed block.

const report = JSON.parse(document.getElementById("report-data").textContent);
const ARRAYS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u2: Uint16Array, u1: Uint8Array };

async function unpacked() {
  const text = document.getElementById("report-numbers").textContent;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// Resolves to a function from an entry of the report to its numbers.
const numbers = unpacked().then((buffer) => (entry) => {
  const length = entry.shape.reduce((product, size) => product * size, 1);
  return new ARRAYS[entry.type](buffer, entry.at, length);
});

function columnOf(read, column) {
  return column.words ?? read(column);
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Three to four digits, as one reads them.
function shortNumber(value) {
  if (!Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}
