"""Where the files are: a model URI, resolved once, and stores that read them wherever they lie.

`resolve` is the way in; `source` holds what comes out. `registry` asks MLflow, `hub_source` the Hugging Face Hub;
`folder` reads this machine in place, `staging` fetches from remote stores (`artifact_repository`, `beginnings`) into
`scratch` folders.
"""
