"""A server with settings that the command line does not have: ``special_server.py '{"silence_seconds": 0.2}' recovers engine``."""

from __future__ import annotations

import asyncio
import json
import sys

from enginebay import opening
from enginebay.bay import Bay
from enginebay.config import load_config
from enginebay.engine import Engine
from enginebay.model import Model
from enginebay.worker.remote import RemotePlugin
from enginebay.worker.supervisor import Supervision
from enginebay_server import Settings, logs
from enginebay_server.offer import effective
from enginebay_server.serve import bind, serve

PATIENT = Supervision(liveness_seconds=5.0, first_pause_seconds=0.01, last_pause_seconds=0.05, deaths=1_000_000)


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    recovers = sys.argv[2] == "recovers"
    model, engine = sys.argv[3], sys.argv[4] or None
    options = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}

    def open_model(plan: opening.Plan) -> Model:
        plan = opening.resolve(plan.name, plan.engine, isolation="process", options=options)
        facade = Engine(
            RemotePlugin(plan.plugin.module, plan.plugin.info, PATIENT, recovers=recovers), plan.plugin.info
        )
        return Model(facade, facade.load(plan.request), plan.name)

    logs.to_stderr()
    configured, first = effective(load_config(), engine, model)
    listening = bind("127.0.0.1", 0)
    with Bay(configured, open_model=open_model) as bay:
        bay.load(first)
        sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]} serves {first}\n")
        sys.stdout.flush()
        asyncio.run(serve(bay, settings, listening))


main()
