"""A skill that obeys the tests: it puts, gets and deletes what they ask for, by JSON lines."""

import asyncio
import json
import os
import sys
from importlib.metadata import version

from opsdroid.events import OpsdroidStarted
from opsdroid.matchers import match_event
from opsdroid.skill import Skill


class Driver(Skill):
    @match_event(OpsdroidStarted)
    async def start(self, event):
        self.task = asyncio.get_running_loop().create_task(self.drive())

    async def drive(self):
        questions, answers = os.fdopen(3), os.fdopen(4, "w")
        database = self.opsdroid.get_database("matrix")

        def say(answer):
            print(json.dumps(answer), file=answers, flush=True)

        packages = ("opsdroid", "matrix-nio", "vodozemac")
        say({"python": sys.version} | {name: version(name) for name in packages})
        while line := await asyncio.get_running_loop().run_in_executor(None, questions.readline):
            operation, *arguments = json.loads(line)
            try:
                say({"returned": await getattr(database, operation)(*arguments)})
            except Exception as e:
                say({"raised": repr(e)})
        os._exit(0)
