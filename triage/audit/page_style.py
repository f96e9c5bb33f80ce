"""The report's style sheet: calm on a screen, whole on A4."""

STYLE = """
@page { size: A4; margin: 14mm; }
body { font: 14px/1.45 system-ui, sans-serif; color: #1d2126; background: #fff; max-width: 48rem; margin: 1.5rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.45rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid
  #ccd; } h3 { font-size: .95rem; margin: .6rem 0 .2rem; }
.safety { color: #7a3b12; margin: .2rem 0 .6rem; }
.sentence { font-size: 1.08rem; font-weight: 600; margin: 1rem 0 .6rem; }
.note { color: #555; font-size: .9em; }
.facts { display: grid; grid-template-columns: 1fr 1fr; gap: .15rem 1.2rem; margin: 0; font-size: .88em; }
.facts div { display: flex; gap: .5rem; } dt { color: #667; min-width: 6.5rem; } dd { margin: 0; }
.verdicts { display: grid; grid-template-columns: repeat(3, 1fr); gap: .7rem; }
.verdict { border: 1px solid #ccd; border-top: 5px solid #889; padding: .4rem .7rem; border-radius: 3px; }
.verdict p { font-size: .86em; margin: .4rem 0 .2rem; }
.verdict.ok { border-top-color: #1b6ca8; } .verdict.watch { border-top-color: #c98a00; }
.verdict.alarm { border-top-color: #a3203a; background: #fdf3f4; }
.state { display: inline-block; font-weight: 700; font-size: .8rem; padding: .05rem .5rem; border-radius: 3px;
  border: 1px solid #889; color: #334; }
.state.ok { background: #1b6ca8; border-color: #1b6ca8; color: #fff; }
.state.watch { background: #ffe9b8; border-color: #c98a00; color: #5a3e00; }
.state.alarm { background: #a3203a; border-color: #a3203a; color: #fff; }
table { border-collapse: collapse; font-size: .84em; margin: .5rem 0; width: 100%; }
th, td { border-bottom: 1px solid #dde; padding: .18rem .45rem; text-align: left; vertical-align: top;
  font-variant-numeric: tabular-nums; } th { color: #556; font-weight: 600; }
figure { margin: .5rem 0; } figcaption { color: #556; font-size: .84em; } svg { max-width: 100%; height: auto; }
.words { font-size: .84em; display: grid; grid-template-columns: 10rem 1fr; gap: .1rem .6rem; }
pre { background: #f3f4f7; padding: .3rem .6rem; font-size: .82em; white-space: pre-wrap; }
.sign { margin-top: 2rem; }
section, figure, table, .verdict { break-inside: avoid; }
@media print { body { margin: 0; max-width: none; padding: 0; font-size: 12px; } }
@media (max-width: 46rem) { .verdicts, .facts { grid-template-columns: 1fr; } }
"""
