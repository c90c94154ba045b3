"use strict";
// The feature browser: search, sort, filter, a link to each feature, keys.

const ON_A_PAGE = 50;

class FeaturePages {
  constructor(document, read) {
    this.document = document;
    this.feature = read(document.feature);
    this.count = this.feature.length;
    this.statistics = Object.fromEntries(Object.entries(document.statistics).map(([name, each]) => [name, read(each)]));
    this.statistics.feature = this.feature;
    this.figures = document.figures;
    [, this.slots, this.width] = document.tokens.shape;
    for (const name of ["tokens", "activations", "document", "quantile", "peak", "nearest", "nearest_cosine"]) {
      this[name === "document" ? "source" : name] = read(document[name]);
    }
    this.none = document.tokens.type === "u2" ? 65535 : -1;
    this.noSource = document.document.type === "u2" ? 65535 : -1;
    this.words = document.words;
    this.lowered = document.words.map((word) => word.toLowerCase());
    this.logits = Object.fromEntries(Object.entries(document.logits).map(([name, each]) => [name, read(each)]));
    this.rows = new Map(Array.from(this.feature, (feature, row) => [feature, row]));
  }

  has(row, slot) {
    return this.source[row * this.slots + slot] !== this.noSource;
  }

  largest(row) {
    let most = 0;
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.has(row, slot)) most = Math.max(most, this.peak[row * this.slots + slot]);
    }
    return most;
  }

  // The word that the feature fires on most in its first context.
  word(row) {
    const start = row * this.slots * this.width;
    let best = -1;
    for (let i = start; i < start + this.width; i++) {
      if (this.tokens[i] !== this.none && (best < 0 || this.activations[i] > this.activations[best])) best = i;
    }
    return best < 0 || !(this.activations[best] > 0) ? "" : this.words[this.tokens[best]];
  }

  // Rows with a context in which the feature fires, at half of the context's peak or more, on a word with this in it;
  // where there are none, rows with a context that has this anywhere.
  search(text) {
    const wanted = text.toLowerCase();
    const words = new Uint8Array(this.words.length);
    this.lowered.forEach((word, i) => { words[i] = word.includes(wanted) ? 1 : 0; });
    const rows = this.all().filter((row) => this.fires(row, words));
    return rows.length ? rows : this.all().filter((row) => this.reads(row, wanted));
  }

  fires(row, words) {
    for (let slot = 0; slot < this.slots; slot++) {
      const place = row * this.slots + slot, half = this.peak[place] / 2, start = place * this.width;
      for (let i = start; i < start + this.width; i++) {
        if (this.activations[i] > 0 && this.activations[i] >= half && this.tokens[i] !== this.none && words[this.tokens[i]]) return true;
      }
    }
    return false;
  }

  reads(row, wanted) {
    for (let slot = 0; slot < this.slots; slot++) {
      const start = (row * this.slots + slot) * this.width;
      let text = "";
      for (let i = start; i < start + this.width; i++) {
        if (this.tokens[i] !== this.none) text += this.lowered[this.tokens[i]];
      }
      if (text.includes(wanted)) return true;
    }
    return false;
  }

  all() {
    return Array.from({ length: this.count }, (_, row) => row);
  }
}

class Browser {
  constructor(pages) {
    this.pages = pages;
    this.columns = pages.figures.filter((each) => each.in_list);
    this.selected = -1;
    this.begin = 0;
    this.place("#sort").append(...[{ name: "feature", label: "number" }, ...this.columns].map(({ name, label }) => element("option", { value: name }, label)));
    this.place("#sort").value = "frequency" in pages.statistics ? "frequency" : "feature";
    this.place("#list thead").append(element("tr", {}, ...["feature", "fires on", ...this.columns.map(({ heading }) => heading)].map((label) => element("th", { scope: "col" }, label))));
    this.place("#choice").addEventListener("submit", (event) => event.preventDefault());
    this.place("#choice").addEventListener("input", () => this.choose());
    this.place("#earlier").addEventListener("click", () => this.turn(-ON_A_PAGE));
    this.place("#later").addEventListener("click", () => this.turn(ON_A_PAGE));
    window.addEventListener("hashchange", () => this.open());
    document.addEventListener("keydown", (event) => this.key(event));
    this.choose();
    this.open();
  }

  place(selector) {
    return document.querySelector(selector);
  }

  // The rows that search and filter leave, sorted.
  choose() {
    const { statistics } = this.pages;
    const text = this.place("#search").value;
    const number = /^\s*#?(\d+)\s*$/.exec(text);
    const least = bound(this.place("#least").value, -Infinity), most = bound(this.place("#most").value, Infinity);
    let rows = text === "" ? this.pages.all() : this.pages.search(text);
    if (number && this.pages.rows.has(Number(number[1]))) rows = [this.pages.rows.get(Number(number[1]))];
    if (statistics.frequency) rows = rows.filter((row) => statistics.frequency[row] >= least && statistics.frequency[row] <= most);
    const values = statistics[this.place("#sort").value], falling = this.place("#falling").checked;
    rows.sort((a, b) => compared(orNull(values[a]), orNull(values[b]), falling) || a - b);
    this.found = rows;
    this.begin = 0;
    this.list();
  }

  list() {
    const { statistics, feature } = this.pages;
    const rows = this.found.slice(this.begin, this.begin + ON_A_PAGE);
    this.place("#list tbody").replaceChildren(...rows.map((row) => {
      const link = element("a", { href: `#f=${feature[row]}` }, String(feature[row]));
      const cells = this.columns.map(({ name }) => element("td", {}, shortNumber(statistics[name][row])));
      const line = element("tr", {}, element("td", {}, link), element("td", {}, word(this.pages.word(row))), ...cells);
      line.dataset.feature = String(feature[row]);
      line.setAttribute("aria-selected", String(row === this.selected));
      line.addEventListener("click", () => { location.hash = `f=${feature[row]}`; });
      return line;
    }));
    const end = Math.min(this.begin + ON_A_PAGE, this.found.length);
    this.place("#found").textContent = `${this.found.length} of ${this.pages.count} features`;
    this.place("#page").textContent = this.found.length ? `${this.begin + 1} to ${end}` : "none";
    this.place("#earlier").disabled = this.begin === 0;
    this.place("#later").disabled = end >= this.found.length;
  }

  turn(by) {
    this.begin = Math.max(0, this.begin + by);
    this.list();
  }

  // Shows the feature that the address names; the first one where it names none.
  open() {
    const wanted = /^#f=(\d+)$/.exec(location.hash);
    if (!wanted && this.selected >= 0) return; // the address of another part of the page
    const row = wanted ? this.pages.rows.get(Number(wanted[1])) : this.found[0];
    if (row === undefined) {
      if (wanted) this.place("#feature").replaceChildren(element("p", {}, `There is no page of feature ${wanted[1]}.`));
    } else {
      this.select(row);
    }
    if (wanted) this.place("#features").scrollIntoView();
  }

  select(row) {
    this.selected = row;
    const at = this.found.indexOf(row);
    if (at >= 0) this.begin = at - (at % ON_A_PAGE);
    this.list();
    this.place("#feature").replaceChildren(...pageOf(this.pages, row));
    this.place("#feature").scrollTop = 0;
  }

  step(by) {
    if (!this.found.length) return;
    const at = this.found.indexOf(this.selected);
    const next = at < 0 ? 0 : Math.min(Math.max(at + by, 0), this.found.length - 1);
    history.replaceState(null, "", `#f=${this.pages.feature[this.found[next]]}`);
    this.select(this.found[next]);
    const line = this.place('#list tr[aria-selected="true"]');
    line.scrollIntoView({ block: "nearest" });
    if (this.place("#list").contains(document.activeElement) || document.activeElement === document.body) {
      line.querySelector("a").focus({ preventScroll: true });
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) return void event.target.blur();
    if (typing || this.place("#help").open) return;
    const inList = this.place("#list").parentElement.contains(event.target);
    const action = {
      j: () => this.step(1),
      k: () => this.step(-1),
      "/": () => { this.place("#features").scrollIntoView(); this.place("#search").focus(); },
      "?": () => this.place("#help").showModal(),
      ...(inList ? { ArrowDown: () => this.step(1), ArrowUp: () => this.step(-1) } : {}),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

function bound(text, otherwise) {
  const value = Number(text.trim().replace(",", "."));
  return text.trim() === "" || Number.isNaN(value) ? otherwise : value;
}

function orNull(value) {
  return Number.isNaN(value) ? null : value;
}

function word(text) {
  return element("span", { className: "word" }, text);
}

function pageOf(pages, row) {
  const feature = pages.feature[row];
  const title = element("h3", {}, `Feature ${feature} `, element("a", { href: `#f=${feature}`, ariaLabel: `Link to feature ${feature}` }, "#"));
  return [title, factsOf(pages, row), ...logitsOf(pages, row), nearestOf(pages, row), ...conceptOf(pages, feature), ...ablationOf(pages, feature), ...contextsOf(pages, row)];
}

function factsOf(pages, row) {
  const shown = pages.figures.filter((each) => each.on_page);
  return element("dl", {}, ...shown.flatMap(({ name, label }) => [element("dt", {}, label), element("dd", {}, shortNumber(pages.statistics[name][row]))]));
}

function logitsOf(pages, row) {
  return [["top", "Raises"], ["bottom", "Lowers"]].filter(([side]) => `${side}_token` in pages.logits).map(([side, label]) => {
    const shown = pages.document.logits[`${side}_token`].shape[1];
    const line = element("p", {}, element("strong", {}, `${label} `));
    for (let i = row * shown; i < (row + 1) * shown; i++) {
      const token = pages.document.logit_words[pages.logits[`${side}_token`][i]];
      line.append(word(token), ` ${shortNumber(pages.logits[`${side}_weight`][i])} `);
    }
    return line;
  });
}

function nearestOf(pages, row) {
  const shown = pages.document.nearest.shape[1];
  const line = element("p", {}, element("strong", {}, "Nearest "));
  for (let i = row * shown; i < (row + 1) * shown; i++) {
    const other = pages.nearest[i];
    if (other < 0) continue;
    line.append(pages.rows.has(other) ? element("a", { href: `#f=${other}` }, String(other)) : String(other), ` (${pages.nearest_cosine[i].toFixed(2)}) `);
  }
  return line;
}

function conceptOf(pages, feature) {
  const found = pages.document.concepts[feature];
  return found ? [element("p", {}, element("strong", {}, "Best concept "), found)] : [];
}

function ablationOf(pages, feature) {
  const found = pages.document.ablation[feature];
  if (!found || typeof found.ce_increase !== "number") return [];
  const error = typeof found.ce_increase_se === "number" ? ` ± ${shortNumber(found.ce_increase_se)}` : "";
  return [element("p", {}, `Without it the loss rises by ${shortNumber(found.ce_increase)}${error} nats on its ${found.tokens} tokens.`)];
}

function contextsOf(pages, row) {
  const largest = pages.largest(row), parts = [];
  const percent = (n) => `${Math.round((100 * n) / pages.document.bands)} %`;
  const bandOf = (slot) => pages.quantile[row * pages.slots + slot];
  const taken = Array.from({ length: pages.slots }, (_, slot) => slot).filter((slot) => pages.has(row, slot));
  // Band 0 has the largest activations; of the others the highest comes first.
  for (const band of [...new Set(taken.map(bandOf))].sort((a, b) => (a && b ? b - a : a - b))) {
    const slots = taken.filter((slot) => bandOf(slot) === band);
    parts.push(element("h4", {}, band ? `Of its activations, from ${percent(band - 1)} to ${percent(band)}` : "Largest activations"));
    parts.push(...slots.map((slot) => contextOf(pages, row * pages.slots + slot, largest)));
  }
  return parts.length ? parts : [element("p", {}, "It fires nowhere in this text.")];
}

function contextOf(pages, place, largest) {
  const text = element("div", { className: "text" });
  const start = place * pages.width;
  for (let i = start; i < start + pages.width; i++) {
    if (pages.tokens[i] === pages.none) continue;
    const activation = pages.activations[i];
    const token = element("span", { className: "token" }, pages.words[pages.tokens[i]]);
    if (activation > 0) {
      token.style.setProperty("--active", String(Math.max(0.08, activation / largest)));
      token.title = shortNumber(activation);
      token.dataset.activation = String(activation);
    }
    if (i - start === Math.floor(pages.width / 2)) token.classList.add("peak");
    text.append(token);
  }
  const source = `${pages.document.documents[pages.source[place]]} · ${shortNumber(pages.peak[place])}`;
  return element("div", { className: "context" }, text, element("div", { className: "source" }, source));
}

let browser = null;
if (report.features) {
  numbers.then((read) => {
    browser = new Browser(new FeaturePages(report.features, read));
    document.documentElement.dataset.features = "ready";
  });
}
