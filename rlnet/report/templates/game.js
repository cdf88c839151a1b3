// Positions of a game by their moves: the board with what is learned and what is exact, in the view of who moves.
(async () => {
  const data = JSON.parse(document.getElementById("game-data").textContent);
  const board = document.getElementById("board"), place = document.getElementById("position");
  const at = await unpacked(data);
  const first = new Uint32Array(at.count.length + 1);
  at.count.forEach((n, s) => { first[s + 1] = first[s] + n; });
  const value = (name, k) => at[name] ? at[name][k] * data.scale[name] : null;
  const text = (x) => x === null ? "–" : (Math.abs(x) < 5e-4 ? "0" : (x > 0 ? "+" : "−") + String(+Math.abs(x).toFixed(3)));
  const share = (x) => `${(100 * x).toFixed(x > 0 && x < 0.01 ? 1 : 0)} %`;
  const RED = "#cd413c", YELLOW = "#f0c846", GOOD = "#0072b2", EVEN = "#5a5a5a", BAD = "#b34a00";
  const colour = (x) => x > 5e-4 ? GOOD : x < -5e-4 ? BAD : EVEN;

  // The position after some moves: its number (-1: over, -2: not on the page), who moves, and what ended the game.
  const follow = (moves) => {
    let s = data.start, player = 0, last = null;
    for (const action of moves) {
      if (s < 0) return null;
      let k = first[s];
      while (k < first[s + 1] && at.action[k] !== action) k += 1;
      if (k === first[s + 1]) return null;
      last = { mover: player, gain: value(at.qBest ? "qBest" : "gain", k) };
      if (!at.again[k]) player = 1 - player;
      s = at.next[k];
    }
    return { s, player, last };
  };

  const worth = at.qBest ? "qBest" : at.q ? "q" : "pi";  // by which moves are coloured: exact, or as learned
  let moves = [];
  const go = (wanted) => {
    const found = follow(wanted);
    if (!found) return false;
    moves = wanted;
    show(found);
    return true;
  };

  const landing = (cells, action) => {
    const [rows, columns, gravity] = data.board;
    if (!gravity) return action;
    for (let row = rows - 1; row >= 0; row -= 1) if (!cells[row * columns + action]) return row * columns + action;
    return -1;
  };

  const picture = (state) => {
    const [rows, columns] = data.board, size = 64, cells = new Array(rows * columns).fill(0);
    moves.forEach((action, k) => { cells[landing(cells, action)] = k % 2 ? 2 : 1; });
    const side = data.board[2] ? 0 : 16;
    const svg = drawn("svg", { viewBox: `${-side} 0 ${columns * size + side} ${rows * size + 18}`, role: "img", "aria-label": "the board" });
    cells.forEach((stone, cell) => {
      const x = cell % columns * size, y = Math.floor(cell / columns) * size;
      svg.append(drawn("rect", { x, y, width: size, height: size, fill: "#e8ecf4", stroke: "#fff", "stroke-width": 2 }));
      const fill = stone ? [RED, YELLOW][stone - 1] : "#fafaf8";
      svg.append(drawn("circle", { cx: x + size / 2, cy: y + size / 2, r: 26, fill, stroke: stone ? "#1c1c1c55" : "#d9d9d9" }));
      if (stone) svg.append(drawn("text", { x: x + size / 2, y: y + size / 2 + 5, fill: stone === 1 ? "#fff" : "#1c1c1c" }, "XO"[stone - 1]));
    });
    for (let k = state.s < 0 ? 0 : first[state.s]; state.s >= 0 && k < first[state.s + 1]; k += 1) {
      const action = at.action[k], cell = landing(cells, action);
      const x = cell % columns * size + size / 2, y = Math.floor(cell / columns) * size + size / 2;
      const group = drawn("g", { class: "can" }), exact = value(worth, k), likely = value("pi", k);
      group.append(drawn("title", {}, data.names[action]));
      group.append(drawn("circle", { cx: x, cy: y, r: 26, fill: colour(exact), "fill-opacity": 0.06 + 0.4 * likely,
        stroke: colour(exact), "stroke-width": 2 }));
      group.append(drawn("text", { x, y: y - 3 }, share(likely)));
      group.append(drawn("text", { x, y: y + 14, fill: colour(exact), "font-weight": 700 }, text(exact)));
      group.addEventListener("click", () => go([...moves, action]));
      svg.append(group);
    }
    const bottom = data.board[2] ? data.names : data.names.slice(-columns).map((name) => name.replace(/\d+$/, ""));
    for (let row = 0; side && row < rows; row += 1) {
      svg.append(drawn("text", { x: -side / 2, y: (row + 0.5) * size + 4 }, rows - row));
    }
    bottom.forEach((name, c) => svg.append(drawn("text", { x: c * size + size / 2, y: rows * size + 13 }, name)));
    return svg;
  };

  const table = (state) => {
    const made = element("table"), top = made.createTHead().insertRow(), body = made.createTBody();
    const heads = ["move", "π learned", ...(at.q ? [data.q || "Q learned"] : []), ...(at.qBest ? ["exact"] : [])];
    heads.forEach((head, k) => top.append(element("th", head, k ? "number" : "")));
    let most = -Infinity;
    for (let k = first[state.s]; k < first[state.s + 1]; k += 1) most = Math.max(most, value(worth, k));
    for (let k = first[state.s]; k < first[state.s + 1]; k += 1) {
      const row = body.insertRow(), action = at.action[k];
      row.className = value(worth, k) > most - 5e-4 ? "can best" : "can";
      row.append(element("td", data.names[action]), element("td", share(value("pi", k)), "number"));
      if (at.q) row.append(element("td", text(value("q", k)), "number"));
      if (at.qBest) row.append(element("td", text(value("qBest", k)), "number"));
      row.addEventListener("click", () => go([...moves, action]));
    }
    return made;
  };

  const button = (label, wanted) => {
    const made = element("button", label);
    made.disabled = !moves.length;
    made.addEventListener("click", () => go(wanted()));
    return made;
  };

  const who = (player) => data.board ? "XO"[player] : ["the first player", "the second player"][player];
  const status = (state) => {
    if (state.s >= 0) return `To move: ${who(state.player)}`;
    if (state.s === -2) return "This position is not on the page: it holds the first moves and those next to the games below.";
    const gain = state.last.gain;
    if (Math.abs(gain) < 5e-4) return data.board ? "A draw." : "The game is over.";
    return `Over: ${who(gain > 0 ? state.last.mover : 1 - state.last.mover)} has won.`;
  };

  const entry = () => {
    const field = element("input"), said = element("p", "", "wrong");
    field.value = moves.map((action) => data.names[action]).join(" ");
    field.setAttribute("aria-label", "moves");
    field.placeholder = "moves, such as " + data.names.slice(0, 2).join(" ");
    field.addEventListener("change", () => {
      let rest = field.value.trim().toLowerCase();
      const wanted = [];
      while (rest) {
        const fits = data.names.map((name, a) => [name.toLowerCase(), a]).sort((a, b) => b[0].length - a[0].length)
          .find(([name]) => rest === name || rest.startsWith(`${name} `));
        if (!fits) break;
        wanted.push(fits[1]);
        rest = rest.slice(fits[0].length).trim();
      }
      if (rest || !go(wanted)) said.textContent = "These are no legal moves.";
    });
    return [field, said];
  };

  const show = (state) => {
    board.replaceChildren(data.board ? picture(state)
      : element("p", state.s >= 0 && data.labels ? data.labels[state.s] : `position after ${moves.length} moves`));
    const parts = [element("h3", status(state))];
    if (state.s >= 0) {
      const said = [...(at.v ? [`${text(value("v", state.s))} as learned`] : []), ...(at.best ? [`${text(value("best", state.s))} exactly`] : [])];
      parts.push(...(said.length ? [element("p", `V = ${said.join(", ")}.`)] : []), table(state));
    }
    const buttons = element("p");
    buttons.append(button("start", () => []), button("back", () => moves.slice(0, -1)));
    parts.push(buttons, ...entry());
    place.replaceChildren(...parts);
  };

  document.querySelectorAll("[data-line] a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    const line = link.closest("[data-line]").dataset.line;
    go(data.lines[line].slice(0, Number(link.dataset.length)));
  }));
  go([]);
})();
