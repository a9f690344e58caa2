"""What a checkpoint serves."""

from __future__ import annotations

from groundup import terminal
from groundup.core.checkpoint import Checkpoint
from groundup.nn.swap import swap
from groundup.serving import Predictor, Sampling
from groundup.stages.trained import Trained


def predictor(checkpoint: Checkpoint) -> Predictor:
    """What answers raw input, made from a checkpoint of one's own, which may name any code."""
    return Predictor.load(checkpoint.folder, trusted=None, swap=swap)


def write_samples(trained: Trained) -> None:
    """What the model writes after the recipe's prompts."""
    terminal.stage("write", "after prompts that it has not seen")
    serving = predictor(trained.run.checkpoint())
    written = []
    for prompt in trained.prepared.recipe.prompts:
        (answer,) = serving.predict(prompt, max_new_tokens=120, sampling=Sampling(temperature=0.5, top_p=0.95))
        terminal.code(answer["completion"], prompt)
        written.append({"prompt": prompt, "completion": answer["completion"]})
    trained.run.write_json("samples.json", written)
