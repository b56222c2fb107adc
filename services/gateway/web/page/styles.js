/** Style sheets that are loaded when they are needed. */

const links = new Map(); // name -> {link, isLoaded: Promise}
const OFF = "not all"; // a medium that nothing is: the sheet stays loaded

/**
 * Adds a style sheet of the page once, such as "vendor/uplot/uPlot.min.css". Resolves when it is loaded, or cannot be.
 * @param {string} name
 * @param {string} media
 */
export function addStyles(name, media = "all") {
  if (!links.has(name)) {
    const link = document.createElement("link");
    const isLoaded = new Promise((resolve) => {
      link.addEventListener("load", resolve);
      link.addEventListener("error", resolve);
    });
    Object.assign(link, { rel: "stylesheet", media, href: new URL(name, import.meta.url).href });
    document.head.append(link);
    links.set(name, { link, isLoaded });
  }
  return links.get(name).isLoaded;
}

/** Loads the style sheets of a view, which hold once `holdStyles` names them. */
export function loadStyles(names) {
  return Promise.all(names.map((name) => addStyles(name, OFF)));
}

/** Lets these style sheets hold, and no other view's. */
export function holdStyles(names) {
  for (const [name, { link }] of links) {
    if (!name.startsWith("vendor/")) link.media = names.includes(name) ? "all" : OFF;
  }
}
