// Hides, sorts and repeats what is on the page; everything there is readable without it.
//
// What is filtered stands in the address behind '#', as `q=chair&word=no&encoder=stock`: so that a
// view can be sent to somebody, and opened by a test.
(() => {
  'use strict';
  const root = document.documentElement;
  const form = document.getElementById('filters');
  const theme = document.getElementById('theme');
  const boxes = form ? [...form.elements.encoder ? form.querySelectorAll('[name=encoder]') : []] : [];
  const fields = ['q', 'word', 'kind', 'result', 'sort', 'size'].filter((name) => form?.elements[name]);

  const cards = [...document.querySelectorAll('.card')].map((node) => ({
    node,
    // What was asked for and asked about, not what was answered.
    text: [...node.querySelectorAll('h5, .badges, th[scope=row]')].map((part) => part.textContent).join(' ').toLowerCase(),
    word: node.dataset.word ?? '',
    kind: node.dataset.kind ?? '',
    columns: [...node.querySelectorAll('.column[data-encoder]')].map((column) => ({
      encoder: Number(column.dataset.encoder),
      score: column.dataset.score === undefined ? null : Number(column.dataset.score),
      panels: [...column.querySelectorAll('.panel')],
    })),
  }));

  // The panels of a card that match a wanted result, or null where any does.
  const matching = (columns, wanted) => {
    if (!wanted) return null;
    const panels = columns.flatMap((column) => column.panels);
    if (wanted !== 'differ') {
      return new Set(panels.filter((panel) => panel.dataset.right === (wanted === 'right' ? '1' : '0')));
    }
    const byKey = new Map();
    for (const panel of panels) {
      byKey.set(panel.dataset.key, [...(byKey.get(panel.dataset.key) ?? []), panel]);
    }
    const groups = [...byKey.values()];
    const differ = (group) => new Set(group.map((panel) => panel.dataset.right)).size > 1;
    return new Set(groups.filter(differ).flat());
  };

  const mean = (scores) => scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const rank = {
    best: (scores) => -mean(scores),
    worst: (scores) => mean(scores),
    differ: (scores) => Math.min(...scores) - Math.max(...scores),
  };

  const sort = (order, hidden) => {
    const value = (card) => {
      const shown = card.columns.filter((column) => !hidden.has(column.encoder) && column.score !== null);
      return shown.length ? rank[order](shown.map((column) => column.score)) : Infinity;
    };
    const sorted = cards.map((card, index) => [rank[order] ? value(card) : index, index, card]);
    sorted.sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] < b[0] ? -1 : 1));
    for (const [, , card] of sorted) card.node.parentNode.append(card.node);
  };

  let order = '/';
  const apply = () => {
    const value = Object.fromEntries(fields.map((name) => [name, form.elements[name].value]));
    const hidden = new Set();
    boxes.forEach((box, encoder) => {
      root.classList.toggle(`hide-${encoder}`, !box.checked);
      if (!box.checked) hidden.add(encoder);
    });
    const query = (value.q ?? '').trim().toLowerCase();
    let count = 0;
    for (const card of cards) {
      const columns = card.columns.filter((column) => !hidden.has(column.encoder));
      const panels = matching(columns, value.result);
      for (const panel of card.columns.flatMap((column) => column.panels)) {
        panel.classList.toggle('dim', panels !== null && !panels.has(panel));
      }
      card.node.hidden = !(columns.length
        && (!value.word || card.word === value.word)
        && (!value.kind || card.kind === value.kind)
        && (!query || card.text.includes(query))
        && (panels === null || panels.size));
      count += card.node.hidden ? 0 : 1;
    }
    const state = `${value.sort}/${[...hidden]}`;
    if (state !== order) {
      order = state;
      sort(value.sort, hidden);
    }
    root.dataset.size = value.size ?? '';
    document.getElementById('count').textContent = `${count} of ${cards.length} shown`;
    for (const group of document.querySelectorAll('.group')) {
      const all = group.querySelectorAll('.card');
      const shown = [...all].filter((card) => !card.hidden).length;
      group.querySelector('[data-group-count]').textContent = `${shown} of ${all.length} shown`;
      group.querySelector('.nothing').hidden = shown > 0;
    }
  };

  const write = () => {
    const state = new URLSearchParams();
    for (const name of fields) {
      if (form.elements[name].value) state.set(name, form.elements[name].value);
    }
    if (boxes.some((box) => !box.checked)) {
      for (const box of boxes) if (box.checked) state.append('encoder', box.value);
      if (!state.has('encoder')) state.append('encoder', '');
    }
    if (theme.value) state.set('theme', theme.value);
    const text = state.toString();
    // An address that stays is no reason to stop.
    try { history.replaceState(null, '', text ? `#${text}` : location.pathname + location.search); } catch { /* as it was */ }
  };

  const read = () => {
    const text = location.hash.slice(1);
    if (!text.includes('=')) return;
    const state = new URLSearchParams(text);
    for (const name of fields) {
      const field = form.elements[name];
      field.value = state.get(name) ?? '';
      // What the page does not offer is not filtered by.
      if (field.selectedIndex === -1) field.value = '';
    }
    const encoders = state.getAll('encoder');
    for (const box of boxes) box.checked = !state.has('encoder') || encoders.includes(box.value);
    theme.value = state.get('theme') ?? '';
    if (theme.selectedIndex === -1) theme.value = '';
  };

  const light = () => {
    if (theme.value) root.dataset.theme = theme.value;
    else delete root.dataset.theme;
  };

  // A link to a card leads there although the filters hide it.
  const reveal = () => {
    const card = document.getElementById(location.hash.slice(1));
    if (!card?.classList.contains('card')) return;
    card.hidden = false;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: 'center' });
  };

  // The pictures of the best and the worst are those of their cards.
  const repeat = () => {
    for (const place of document.querySelectorAll('[data-pictures-of]')) {
      const card = document.getElementById(place.dataset.picturesOf);
      card?.querySelectorAll('.column').forEach((column, index) => {
        if (index) {
          const gap = document.createElement('span');
          gap.className = 'gap';
          place.append(gap);
        }
        const picture = column.querySelector('.panel img, .panel .layers');
        const shown = picture?.closest('.layers') ?? picture;
        if (!shown) return;
        const copy = shown.cloneNode(true);
        for (const image of [copy, ...copy.querySelectorAll('img')]) image.alt = '';
        if (column.dataset.encoder !== undefined) copy.dataset.encoder = column.dataset.encoder;
        place.append(copy);
      });
      place.setAttribute('aria-hidden', 'true');
    }
  };

  theme.addEventListener('change', () => { light(); write(); });
  if (form) {
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('input', () => { apply(); write(); });
    form.addEventListener('reset', () => setTimeout(() => { apply(); write(); }));
    if (matchMedia('(max-width: 50rem)').matches) document.getElementById('filter-box').open = false;
    repeat();
  }
  addEventListener('hashchange', () => {
    read();
    light();
    if (form) apply();
    reveal();
  });
  read();
  light();
  if (form) apply();
  reveal();
})();
