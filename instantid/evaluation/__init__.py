"""How good are the pictures: likeness, key points, prompt, time; for any bundle. `python -m instantid evaluate`.

`plan` says what is asked, `people`, `drawn` and `prompts` where it comes from, `variants` what differs from row to row.
`run` makes the pictures and `judge` measures each one (`likeness`, `identification`, `key_points`, `obedience`);
`figures` sums them up (`intervals`), `report` and `grid` write them down.
"""
