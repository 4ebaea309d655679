"""Every Python block of the README, run as it stands."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from readme import blocks

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = [b for b in blocks() if b.name.startswith("line ")]
MODULES = [b for b in blocks() if not b.name.startswith("line ")]


async def test_each_block_is_run_here_or_by_the_quickstart():
    assert len(PROGRAMS) >= 4
    assert [b.name for b in MODULES] == ["scan.py"]


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda b: b.name)
async def test_a_program_of_the_readme_runs(block, engine, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(block.code)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
