"""The look of the page: one sheet for light and dark, narrow and wide."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #1d1c1a; --quiet: #6f6b63; --rule: #e4e0d8;
  --curve: #35618e; --area: #35618e1f; --band: #35618e40; --mark: #c8501e; --good: #2c7a4b;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Source Serif 4", Georgia,
    "Liberation Serif", serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131416; --card: #1b1d20; --ink: #eceae6; --quiet: #9a978f; --rule: #2d3034;
    --curve: #7fb0e0; --area: #7fb0e01c; --band: #7fb0e03d; --mark: #ff8a50; --good: #6fcf97;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans);
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
.quiet, figcaption, dt, .levels, .hours, footer { color: var(--quiet); }
header { border-bottom: 1px solid var(--rule); padding-bottom: 16px; margin-bottom: 40px;
  display: flex; flex-wrap: wrap; gap: 4px 24px; align-items: baseline;
  justify-content: space-between; }
header .name { font-weight: 650; }
header .facts { color: var(--quiet); font-size: 14px; }
header .facts span + span::before { content: "·"; margin: 0 8px; }
section + section { border-top: 1px solid var(--rule); margin-top: 64px; padding-top: 48px; }
h1 { font: 400 clamp(28px, 4.4vw, 42px)/1.18 var(--serif); letter-spacing: -0.012em;
  margin: 0 0 20px; text-wrap: balance; white-space: pre-line; }
h2 { font-size: 13px; font-weight: 650; letter-spacing: 0.02em; margin: 44px 0 4px; }
h2 + p { margin: 0 0 16px; font-size: 14px; max-width: 68ch; }
.answer { margin: 0; padding: 2px 0 2px 18px; border-left: 4px solid var(--mark);
  font-size: clamp(20px, 2.6vw, 26px); line-height: 1.4; font-weight: 600; white-space: pre-line; }
.truth { margin: 10px 0 0 22px; font-size: 14px; color: var(--quiet); }
.truth b { color: var(--ink); font-weight: 600; }
.truth.right b { color: var(--good); }
.truth.wrong b { color: var(--mark); }
.timeline { display: grid; grid-template-columns: auto 1fr; column-gap: 10px; font-size: 12px; }
.levels { display: flex; flex-direction: column; justify-content: space-between;
  text-align: right; line-height: 1; }
.plot { position: relative; height: 200px; border-bottom: 1px solid var(--rule); }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.line { fill: none; stroke: var(--curve); stroke-width: 1.6; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
.area { fill: var(--area); }
.band { fill: var(--band); }
.stem { stroke: var(--mark); stroke-width: 1; stroke-opacity: 0.45;
  vector-effect: non-scaling-stroke; }
.moment { fill: transparent; }
.moment:hover { fill: var(--area); }
.dot { position: absolute; width: 11px; height: 11px; margin: -5.5px; border-radius: 50%;
  background: var(--mark); border: 2px solid var(--paper); }
.dot.fill { background: var(--paper); border-color: var(--mark); }
.dot:hover, .dot:focus-visible { transform: scale(1.5); outline: none; }
.hours { grid-column: 2; position: relative; height: 22px; margin-top: 6px; }
.hours span { position: absolute; transform: translateX(-50%); }
.hours span:first-child { transform: none; }
.key { font-size: 13px; margin: 6px 0 0; display: flex; flex-wrap: wrap; gap: 4px 20px; }
.key i { display: inline-block; position: static; margin: 0 7px 0 0; vertical-align: -1px; }
.key i.stroke { width: 18px; height: 0; border-top: 2px solid var(--curve); vertical-align: 4px; }
.frames { display: grid; gap: 18px 14px; grid-template-columns: repeat(auto-fill,
  minmax(min(148px, 44%), 1fr)); }
.frames.wide { grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
  gap: 24px 18px; }
figure { margin: 0; scroll-margin: 24px; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px;
  background: var(--rule); }
figure:target img { outline: 3px solid var(--mark); outline-offset: 2px; }
figcaption { font-size: 13px; margin-top: 6px; line-height: 1.4; }
figcaption b { color: var(--ink); font-weight: 650; margin-right: 6px; }
.meter { display: block; height: 3px; margin-top: 5px; border-radius: 2px;
  background: var(--rule); }
.meter i { display: block; height: 100%; border-radius: 2px; background: var(--curve); }
.meter.best i { background: var(--mark); }
.stack { position: relative; overflow: hidden; border-radius: 6px; }
.stack .heat { position: absolute; inset: 0; height: 100%; background: none;
  transition: opacity 0.18s; }
.stack:hover .heat { opacity: 0; }
.tables { display: grid; gap: 0 56px; grid-template-columns: repeat(auto-fit,
  minmax(min(280px, 100%), 1fr)); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 20px; margin: 8px 0 0;
  font-size: 14px; }
dd { margin: 0; }
dd .meter { width: 100%; max-width: 220px; margin: 8px 0 0; }
dl.times { grid-template-columns: max-content max-content 1fr; }
footer { border-top: 1px solid var(--rule); margin-top: 64px; padding-top: 14px; font-size: 13px; }
@media (max-width: 560px) {
  main { padding: 24px 16px 40px; }
  .plot { height: 140px; }
}
@media print { .heat { print-color-adjust: exact; } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; }
  html { scroll-behavior: auto; } }
"""
