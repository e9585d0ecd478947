// What is wrong with a page that has settled, as texts. A table may be as wide as what holds it, and no wider.
() => {
  const found = [];
  const told = (element) => element.textContent.trim().replace(/\s+/g, " ").slice(0, 80);
  const all = (selector, look) => document.querySelectorAll(selector).forEach(look);
  all("mjx-merror, [data-mjx-error], .problematic", (one) => found.push(`an equation in red: ${told(one)}`));
  all(".math", (one) => one.querySelector("mjx-container") || found.push(`an equation not set: ${told(one)}`));
  all("article table", (one) => {
    const column = one.parentElement.clientWidth;
    if (column && one.offsetWidth > column + 1) found.push(`a table of ${one.offsetWidth} in ${column} pixels: ${told(one)}`);
  });
  all("img", (one) => {
    if (one.complete && !one.naturalWidth) found.push(`a picture that does not load: ${one.getAttribute("src")}`);
    const column = one.closest("article, body").clientWidth;
    if (one.offsetWidth > column + 1) found.push(`a picture wider than its column: ${one.getAttribute("src")}`);
  });
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth + 1) found.push(`a page of ${scrollWidth} in a window of ${clientWidth} pixels`);
  return found;
}
