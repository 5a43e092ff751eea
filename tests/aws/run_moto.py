#!/usr/bin/env python3
"""Runs moto's own tests of AWS's APIs against zonal.

    run_moto.py TESTS URL LIST [PYTEST-OPTION…]

TESTS is the directory `tests` of moto's source distribution, URL the admin address of a zonal whose manifest is pushed, and LIST a
file with one test on each line. The script replaces the manifest before each test. Responses are checked against the full models
of botocore, like those of all other tests.

A few of moto's tests contradict AWS. `moto_corrections.py` has their texts, with AWS's texts. A test that is skipped
fails: it must not be in the list.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from moto_corrections import CORRECTIONS


def main():
    tests, url, listed, *options = sys.argv[1:]
    lines = (line.strip() for line in Path(listed).read_text().splitlines())
    wanted = [line for line in lines if line and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "tests")
        folders = {name.split("/")[0] for name in wanted}
        for path in Path(tests).iterdir():
            if path.suffix == ".py":
                shutil.copy(path, copied(copy) / path.name)
            elif path.name in folders:
                shutil.copytree(path, copy / path.name)
        for path in copy.rglob("*.py"):
            text = path.read_text()
            for moto, aws in CORRECTIONS:
                text = text.replace(moto, aws)
            path.write_text(text)
        environment = dict(
            os.environ,
            TEST_SERVER_MODE="true",
            TEST_SERVER_MODE_ENDPOINT=url,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_MAX_ATTEMPTS="2",
            AWS_CONFIG_FILE="/dev/null",
            AWS_SHARED_CREDENTIALS_FILE="/dev/null",
            PYTHONPATH=str(Path(__file__).parent.resolve()),
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "moto_plugin", "-p", "no:cacheprovider", "--tb=short", *options]
        command += [f"tests/{name}" for name in wanted]
        sys.exit(subprocess.run(command, cwd=directory, env=environment).returncode)


def copied(directory):
    directory.mkdir(exist_ok=True)
    return directory


if __name__ == "__main__":
    main()
