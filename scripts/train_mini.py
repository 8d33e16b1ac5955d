"""Train the shipped model `mini` on the playground, in under three hours on two CPU cores.

    python scripts/train_mini.py --run runs/mini                    # train, or resume
    python scripts/train_mini.py --run runs/mini --export FOLDER    # write the model, as in src/openxclip/models/mini
    python scripts/train_mini.py --run runs/bag --bag               # train the comparison mini-bag

The comparison mini-bag has no messages and averages its frames. The training has stages of four kinds:

stills: train a small image–text CLIP on single frames, which show one thing or two at some place, size and angle.
clips:  train the model on clips of 8 frames, with messages and MIT. The last of these stages also trains on single
        frames, because 128 things per step teach names faster than the 16 of the clips.
order:  train only MIT and the text tower, on cached frame features. This teaches most of the order of frames, within
        minutes. These stages alternate with "clips", which also train the towers.
prompts: train as in "clips", but with the video-specific prompts, which the shipped model uses.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import evaluate_mini
import torch
from mini_model import SIZE, Texts, build
from mini_stages import Memory, Probes, Stage, clips_loss, stills_loss
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from openxclip.model import XCLIPModel

STAGES = (
    Stage("stills", 3000, 128, 1e-3, 1e-3),
    Stage("clips", 300, 16, 3e-4, 1e-3),
    Stage("order", 1500, 128, 1e-3, 1e-3),
    Stage("clips", 1500, 16, 4e-4, 4e-4),
    Stage("order", 1000, 128, 5e-4, 5e-4),
    Stage("clips", 1000, 16, 4e-4, 4e-4, stills=128),
    Stage("prompts", 200, 16, 1e-4, 4e-4),
)


def parameter_groups(model: XCLIPModel, probes: Probes, stage: Stage) -> list[dict]:
    """Return AdamW's parameter groups: new parts learn faster, and vectors and embeddings have no weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *probes.named_parameters()]:
        if stage.name == "order" and not name.startswith(("mit.", "text_", "logit_scale")):
            continue  # the frame features are cached, so the parameters that they depend on are frozen
        new = name.startswith(("mit.", "prompts_")) or "message_" in name
        groups.setdefault((new, parameter.ndim > 1 and "embedding" not in name), []).append(parameter)
    return [
        {"params": group, "peak": stage.new_rate if new else stage.rate, "weight_decay": 0.05 if decays else 0.0}
        for (new, decays), group in groups.items()
    ]


def train(run: Path, stages: tuple[Stage, ...], *, bag: bool = False, stop_after: int | None = None) -> XCLIPModel:
    """Train all stages, or resume from the run's checkpoint.

    Args:
        run: folder of the checkpoint.
        stages: stages of the training.
        bag: train without messages, on the mean of the frames.
        stop_after: stop after this number of steps of this call.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    texts = Texts()
    model, probes = build(len(texts.used)), Probes()
    checkpoint = torch.load(run / "last.pt") if (run / "last.pt").exists() else {"stage": 0, "step": 0}
    if "model" in checkpoint:
        model.load_state_dict(checkpoint["model"])
        probes.load_state_dict(checkpoint["probes"])
    model.train()
    done, saved = 0, time.monotonic()

    def save(stage: int, step: int, optimizer: torch.optim.Optimizer | None) -> None:
        state = {"stage": stage, "step": step, "model": model.state_dict(), "probes": probes.state_dict()}
        state["optimizer"] = optimizer.state_dict() if optimizer else None
        torch.save(state, run / "next.pt")
        (run / "next.pt").replace(run / "last.pt")
        if not step:
            torch.save(state, run / f"after_{stage}.pt")

    for number in range(checkpoint["stage"], len(stages)):
        stage = stages[number]
        optimizer = torch.optim.AdamW(parameter_groups(model, probes, stage), betas=(0.9, 0.98))
        first = checkpoint["step"] if number == checkpoint["stage"] else 0
        if first:
            optimizer.load_state_dict(checkpoint["optimizer"])
        memory = Memory(model, bag=bag) if stage.name == "order" else None
        seen: dict[str, list[float]] = {}
        began = time.monotonic()
        for step in range(first, stage.steps):
            progress = (step + 1) / stage.steps
            rate = min(1.0, (step + 1) / 100) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * progress)))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            model.zero_grad()
            probes.zero_grad()
            seed = number * 10**7 + step
            with sdpa_kernel(SDPBackend.MATH):  # for these lengths a fifth faster on a CPU
                if stage.name == "stills":  # begins with plain scenes
                    hard = min(1.0, max(0.0, (step / stage.steps - 0.1) / 0.5))
                    losses = stills_loss(model, probes, texts, stage.batch, step, seed, hard=hard)
                else:
                    losses = clips_loss(model, probes, texts, stage, step, seed, memory, bag)
                if stage.stills:
                    stills = stills_loss(model, probes, texts, stage.stills, step, seed, hard=1.0)
                    losses |= {f"still {name}": loss for name, loss in stills.items()}
                loss = sum(weight * value for value, weight, _ in losses.values())
                loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))
            seen.setdefault("loss", []).append(loss.detach().item())
            for name, (_, _, right) in losses.items():
                seen.setdefault(name, []).append(right)
            if (step + 1) % 50 == 0 or step + 1 == stage.steps:
                means = "  ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in seen.items())
                pace = (time.monotonic() - began) / (step + 1 - first)
                print(f"{stage.name} {step + 1}/{stage.steps}  {means}  {pace:.2f} s a step", flush=True)
                seen = {}
            done += 1
            if done == stop_after or time.monotonic() - saved > 60:
                save(number, step + 1, optimizer)
                saved = time.monotonic()
            if done == stop_after:
                return model
        save(number + 1, 0, None)
    return model


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/mini"), help="folder of the checkpoint")
    parser.add_argument("--bag", action="store_true", help="train the comparison, without messages and MIT")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--export", type=Path, help="write the run's model to this folder instead of training")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.export:
        texts = Texts()
        model = build(len(texts.used))
        model.load_state_dict(torch.load(arguments.run / "last.pt")["model"])
        evaluate_mini.export(model, texts.used, arguments.export, SIZE)
    else:
        stages = tuple(stage for stage in STAGES if not (arguments.bag and stage.name == "prompts"))
        train(arguments.run, stages, bag=arguments.bag)


if __name__ == "__main__":
    main()
