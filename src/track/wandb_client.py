"""Passes JSON lines on stdin to the wandb package: see wandb.rs."""

import json
import os
import site
import sys

# Replies have the real stdout to themselves: what the package prints goes to stderr.
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def reply(**message):
    print(json.dumps(message), file=replies, flush=True)


def fail(error):
    reply(error=f"{type(error).__name__}: {error}")
    sys.exit(1)


# Python was started with -I: the present folder, which may be somebody else's, or hold a folder "wandb" of earlier runs, gives no
# modules. What the user has set up does.
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
if sys.prefix == sys.base_prefix and not os.environ.get("PYTHONNOUSERSITE"):
    site.addsitedir(site.getusersitepackages())
try:
    import wandb

    wandb.init, wandb.__version__
except Exception as error:
    fail(error)
reply(ready=True)

run = None
# A trainer that goes away without a word has failed.
exit_code = 1
for line in sys.stdin:
    message = json.loads(line)
    if "init" in message:
        try:
            run = wandb.init(
                resume="allow",
                allow_val_change=True,
                settings={"console": "off"},
                **message["init"],
            )
        except Exception as error:
            fail(error)
        reply(id=run.id)
    elif "log" in message:
        run.log(message["log"], step=message["step"])
    else:
        exit_code = message["finish"]
if run is not None:
    run.finish(exit_code=exit_code)
