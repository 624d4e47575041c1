"""A ranking model of large float32 layers answers without end; cured, its layers are bfloat16."""

from __future__ import annotations

import torch
from job import Job
from models import mlp

job = Job("quantizable-inference", __file__)
model = mlp(512, 2048, 4, 64).eval()
requests = torch.randn(64, 32, 512)
if job.cured:
    model, requests = model.bfloat16(), requests.bfloat16()
with torch.inference_mode():
    while True:
        for rows in requests:
            model(rows).argmax(1)
            job.step(len(rows))
