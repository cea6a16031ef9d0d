// Typesets what pymdownx.arithmatex marked, on the first page and on each that instant loading shows.
document$.subscribe(() => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const block = element.tagName === "DIV";
    const source = element.textContent.trim().slice(2, -2); // between \( and \), or \[ and \]
    katex.render(source, element, { displayMode: block, throwOnError: false });
  }
});
