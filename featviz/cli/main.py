"""The command group, and where errors become one line and exit code 2."""

from typing import Any

import click

from featviz.cli.atlas import atlas
from featviz.cli.networks import layers, networks, units
from featviz.cli.render import render
from featviz.errors import FeatvizError


class Stop(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands may raise any FeatvizError."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FeatvizError as error:
            raise Stop(" ".join(str(error).split())) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="featviz")
def main() -> None:
    """See every neuron of a network: pictures, rendered from noise, of what makes it fire."""


for command in (networks, layers, units, render, atlas):
    main.add_command(command)
