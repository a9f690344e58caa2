"""What the page of an inspection adds to the house's style."""

STYLE = """
.mark.look{color:#8a5a00;background:#fdf1d8}.mark.know{color:var(--soft);background:var(--code)}
@media (prefers-color-scheme:dark){.mark.look{color:#f0c36a;background:#35290f}}
.findings td:first-child{width:1%;white-space:nowrap}
.findings td:nth-child(2){min-width:220px}
.findings code{display:block;font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
background:var(--code);border:1px solid var(--rule);border-radius:6px;padding:5px 9px;margin-top:5px;
overflow-wrap:anywhere;white-space:pre-wrap}
.saw{color:var(--soft);overflow-wrap:anywhere}
.badge{display:inline-block;border:1px solid var(--rule);border-radius:99px;padding:0 8px;font-size:12px;
color:var(--soft);white-space:nowrap;vertical-align:1px}
.badge.target{color:var(--accent);border-color:var(--accent)}.badge.out{text-decoration:line-through}
.meter{display:inline-block;width:56px;height:7px;border-radius:4px;background:var(--rule);overflow:hidden;
vertical-align:1px;margin-right:8px}
.meter i{display:block;height:100%;background:var(--c2)}.meter.tells i{background:var(--accent)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:14px;margin-top:8px}
.card{border:1px solid var(--rule);border-radius:10px;padding:12px 14px;min-width:0;break-inside:avoid;
scroll-margin-top:16px}
.card h3{font-size:15px;margin:0 0 2px;overflow-wrap:anywhere}
.card p{margin:2px 0 0;font-size:13px;color:var(--soft);overflow-wrap:anywhere}
.card .chart{min-width:0!important;margin-top:8px}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:12px;margin:10px 0 4px}
.picture{margin:0;min-width:0;overflow:visible}.picture img{display:block;max-width:100%;border-radius:6px;
background:var(--code)}
.picture img.pixels{width:96px;image-rendering:pixelated}
.versions{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:20px;margin:10px 0 4px}
.versions figure{display:flex;flex-direction:column-reverse;justify-content:flex-end}
td:first-child{min-width:90px}
.picture figcaption{font-size:12px;line-height:1.35;overflow-wrap:anywhere}
.picture figcaption b{color:var(--ink);font-weight:600;display:block}
.chart .bin{fill:var(--accent);opacity:.82}.chart .bin.far{fill:var(--c2)}.chart .bin.quiet{fill:var(--quiet)}
.chart .median{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:3 3;fill:none}
.chart .track{fill:var(--code)}.chart .gap{fill:var(--c2)}
.chart .with{fill:var(--cell)}.chart .against{fill:var(--wrong)}
.chart .band{stroke:var(--c1);opacity:.25;fill:none}.chart .lag{stroke:var(--accent);fill:none}
.spark{width:108px;display:inline-block}
h3.group{font-size:14px;margin:18px 0 2px}
.peek td,.peek th{max-width:260px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;padding:5px 14px 5px 0}
.overview td{white-space:nowrap}.overview td:first-child{white-space:normal;min-width:120px}
.none{color:var(--quiet)}
a.column{color:inherit;text-decoration:none;font-weight:600;overflow-wrap:anywhere}a.column:hover{color:var(--accent)}
.good{color:var(--good)}
@media (max-width:640px){.findings thead{display:none}
.findings table,.findings tbody,.findings tr,.findings td,.findings td:first-child{display:block;width:auto}
.findings td{border:0;padding:3px 0}.findings tr{border-bottom:1px solid var(--rule);padding:10px 0}
.findings tr:last-child{border:0}.cards{grid-template-columns:1fr}}
@media print{.card,.picture{break-inside:avoid}details{display:block}}
"""
