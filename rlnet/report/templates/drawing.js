"use strict";
// What drawings on a page need: arrays packed by the page, and elements of HTML and SVG.
const unpacked = async (data) => {
  const bytes = Uint8Array.from(atob(data.packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const kinds = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
  const at = {};
  let offset = 0;
  for (const [name, kind, length] of data.arrays) {
    at[name] = new kinds[kind](buffer, offset, length);
    offset += Math.ceil(length * kinds[kind].BYTES_PER_ELEMENT / 8) * 8;
  }
  return at;
};
const element = (tag, content, name) => {
  const made = document.createElement(tag);
  if (content !== undefined) made.textContent = content;
  if (name) made.className = name;
  return made;
};
const drawn = (tag, attributes, content) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, x] of Object.entries(attributes)) made.setAttribute(name, x);
  if (content !== undefined) made.textContent = content;
  return made;
};
