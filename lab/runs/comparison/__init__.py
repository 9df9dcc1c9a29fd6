"""What finished runs say: read (`collect`, `wandb_files`), told apart (`labels`, `configurations`), compared (`compare`), said and shown.

How sure a difference is, is in `differences`, `verdict`, `power` and `sequential`; what becomes of it with size in
`scaling`; what mattered in a search in `importance`. `words` and `numbers` say it, `columns` and `export` make
tables of it, `page`, `cards` and `charts` the HTML page, `wandb_report` the page in W&B. `lab.report` is the front door.
"""
