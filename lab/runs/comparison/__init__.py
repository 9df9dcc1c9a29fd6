"""What finished runs say: read, told apart, compared, said in words and shown.

`collect` and `wandb_files` read runs, `labels` and `configurations` tell them apart, `compare` puts the questions. How
sure an answer is, is in `differences`, `verdict`, `power` and `sequential`; what becomes of it with size in `trends`
and `scaling`; what mattered in a search in `importance`. `words`, `method` and `numbers` say it, `columns` and `export` make
tables of it, `page`, `cards` and `charts` the HTML page, `wandb_report` the page in W&B. `lab.report` is the front door.
"""
