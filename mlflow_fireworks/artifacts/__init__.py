"""What goes up: from a model's files to the manifest of a complete, checked checkpoint.

In the order of reading: `sources` (where the files are), `layout` and `candidates` (which folder holds the checkpoint),
`selection` and `checkpoint` (which files, under which names, which kind), `preflight`, `quantisation` and `adapter`
(every fault), `index`, `tensors` and `adapter_tensors` (what the headers of the weights show), `load_check` and its
program `meta_model` (whether transformers would load them), `shards` and `unwrapping` (weights made on the fly),
`facts` with `parameters` and `context_length`,
`evidence` and `lineage`, `fingerprint` with `known_hashes`, and `manifest`, which joins all.

`layout` and `checkpoint` have a room for each of their questions: `tree`, `components`, `reference`, `neighbours`;
`weights`, `small_files`, `plain_text`, `chat_template`, `sentence_modules`, `own_code`, `logged_defaults`, `kinds`.
"""
