// Elements. Text always arrives as text, never as markup: module names are whatever a model calls them.

export function element(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

// The same in a drawing, within a given element of it.
export function drawn(inside, tag, attributes, ...children) {
  const node = filled(document.createElementNS(inside.namespaceURI, tag), attributes, children);
  inside.append(node);
  return node;
}

function filled(node, attributes = {}, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "style") {
      for (const [property, text] of Object.entries(value)) node.style.setProperty(property, text);
    } else if (value !== false && value !== undefined) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children);
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}
