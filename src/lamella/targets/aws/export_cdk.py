"""A deployment as an app of the CDK.

https://docs.aws.amazon.com/cdk/v2/guide/use-cfn-template.html
"""

from __future__ import annotations

import json

from lamella.targets.aws.naming import Names
from lamella.targets.aws.outside import BUCKET, Outside
from lamella.targets.aws.settings import Settings


def app(names: Names, settings: Settings, found: Outside) -> str:
    """The app's text.

    Args:
        names: Of the deployment.
        settings: Its settings.
        found: What is exported, with keys that are names of files alone.
    """
    return _APP.format(
        stack=names.stack,
        region=names.region,
        tags=json.dumps(dict(settings.tags), indent=4),
        folders=json.dumps(found.folders),
        bucket=BUCKET,
    )


_APP = '''"""The deployment as a CDK app: Lamella's template, with what its functions are made of as assets."""

import shutil
from pathlib import Path

import aws_cdk as cdk
from aws_cdk.cloudformation_include import CfnInclude

FOLDERS = {folders}
TAGS = {tags}
HERE = Path(__file__).parent

app = cdk.App()
place = cdk.Environment(region="{region}")
stack = cdk.Stack(app, "{stack}", stack_name="{stack}", env=place, tags=TAGS)


def asset(path):
    """The bucket that a file goes to. There it is called by its digest, as here, and as the template has it."""
    shutil.copyfile(path, Path(app.outdir, path.name))
    there = stack.synthesizer.add_file_asset(
        file_name=path.name, source_hash=path.stem, packaging=cdk.FileAssetPackaging.FILE
    )
    if there.object_key != path.name:
        raise SystemExit(f"the template needs assets without a prefix, and the synthesizer has {{there.object_key}}")
    return there.bucket_name


files = [path for folder in FOLDERS for path in sorted((HERE / folder).glob("*"))]
buckets = {{"{bucket}": asset(path) for path in files}}
included = CfnInclude(stack, "Lamella", template_file=str(HERE / "template.json"), parameters=buckets)
app.synth()
'''
