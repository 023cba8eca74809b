"""Where the files are: a model URI, resolved once, and stores that read them wherever they lie.

`resolve` is the way in; `source` holds what comes out. `registry` asks MLflow, `hub_source` the Hugging Face Hub;
`folder` reads this machine in place, `relay` reads remote files in `ranges` (`range_clients`: how each kind of store
sends them), and `staging` fetches those of stores that cannot (`artifact_repository`) into `scratch` folders.
"""
