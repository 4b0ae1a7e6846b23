"""What a launcher says of this process: which one of how many it is, and where the first one listens.

Read are the variables of ``torchrun`` and of everything that sets the same (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``,
``MASTER_ADDR``, ``MASTER_PORT``), of Open MPI, of MPI's process managers (``PMI_*``) and of SLURM's ``srun``, in this
order: a launcher that was itself started by another one knows better. One process alone is no group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InputError

PORT = 29500
"""Where the first process listens, unless ``MASTER_PORT`` says otherwise; ``torchrun``'s own default."""
ALONE = "devices=1 (--devices 1) trains in this process alone"


class Launcher(NamedTuple):
    """A launcher's name, and the names of its variables."""

    name: str
    rank: str
    size: str
    local_rank: str
    local_size: str


TORCHRUN = Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
OPEN_MPI = Launcher(
    "mpirun",
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
)
PMI = Launcher("mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
SRUN = Launcher("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
OTHERS = (OPEN_MPI, PMI, SRUN)


class Place(NamedTuple):
    """This process among those of a training.

    :param local_rank: its number among those of its machine; None where nobody says so.
    :param local_size: how many there are on its machine; None where nobody says so.
    :param address, port: where the first process listens.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int | None
    local_size: int | None
    address: str
    port: int


def place_in(variables: Mapping[str, str]) -> Place | None:
    """Return this process's place by the environment's variables; None where it is alone.

    :raises InputError: they disagree, or say too little; naming the variable.
    """
    elastic = "TORCHELASTIC_RUN_ID" in variables  # what others say is the place of torchrun itself
    others = [] if elastic else [launcher for launcher in OTHERS if has_started(launcher, variables)]
    there = [name for name in (TORCHRUN.rank, TORCHRUN.size) if name in variables]
    mpi = [launcher for launcher in others if launcher is not SRUN]
    if len(there) == 2:
        for launcher in mpi:
            check_agreement(variables, launcher, TORCHRUN.rank, launcher.rank)
            check_agreement(variables, launcher, TORCHRUN.size, launcher.size)
        return place_by(TORCHRUN, variables)
    if others:
        if TORCHRUN.size in there:
            check_agreement(variables, others[0], TORCHRUN.size, others[0].size)
        return place_by(others[0], variables)
    if there and (there[0] == TORCHRUN.rank or number(variables, TORCHRUN.size) != 1):
        lacking = TORCHRUN.size if there[0] == TORCHRUN.rank else TORCHRUN.rank
        raise InputError(f"{there[0]} is {variables[there[0]]}, but {lacking} is not set; set both, or neither")
    return None


def has_started(launcher: Launcher, variables: Mapping[str, str]) -> bool:
    """Whether a launcher's variables say that it has started this process and others.

    An allocation of SLURM has variables of the same names: in a batch script (which is process 0 of SLURM_NTASKS), and
    in an interactive shell. A process of ``srun`` is one of a step. As for Lightning, a job whose name is ``bash`` or
    ``interactive`` is no launcher.
    """
    if launcher.rank not in variables or launcher.size not in variables or number(variables, launcher.size) == 1:
        return False
    if launcher is not SRUN:
        return True
    by_slurmd = "SLURMD_NODENAME" in variables
    in_step = "SLURM_STEP_ID" in variables or "SLURM_STEPID" in variables
    return (in_step or not by_slurmd) and variables.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def check_agreement(variables: Mapping[str, str], launcher: Launcher, one: str, other: str) -> None:
    """Raise :class:`InputError` where two launchers' variables differ."""
    if number(variables, one) != number(variables, other):
        raise InputError(
            f"{other} is {variables[other]}, but {one} is {variables[one]}; unset those that {launcher.name} did not "
            f"set, or the others; {ALONE}"
        )


def place_by(launcher: Launcher, variables: Mapping[str, str]) -> Place | None:
    """Return the place that one launcher's variables say; None for one process alone."""
    rank, size = number(variables, launcher.rank), number(variables, launcher.size)
    if rank >= size:
        raise InputError(
            f"{launcher.rank} is {rank}, but {launcher.size} is {size}; of {size} processes the ranks are 0 to "
            f"{size - 1}"
        )
    if size == 1:
        return None
    local_rank, local_size = (
        number(variables, name) if name in variables else None for name in (launcher.local_rank, launcher.local_size)
    )
    address = address_of(launcher, variables, all_here=local_size == size)
    return Place(launcher.name, rank, size, local_rank, local_size, address, port_of(launcher, variables))


def address_of(launcher: Launcher, variables: Mapping[str, str], all_here: bool) -> str:
    """Return the first process's machine.

    :param all_here: whether all processes are on this one.
    """
    if variables.get("MASTER_ADDR"):
        return variables["MASTER_ADDR"]
    if launcher is SRUN:
        from lightning.fabric.plugins.environments import SLURMEnvironment

        for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
            if variables.get(name):
                return str(SLURMEnvironment.resolve_root_node_address(variables[name]))
    elif launcher is not TORCHRUN and all_here:
        return "127.0.0.1"
    how = f"; {launcher.name} -x MASTER_ADDR=HOST passes it on" if launcher is OPEN_MPI else ""
    raise InputError(
        f"MASTER_ADDR is not set, but {launcher.size} is {variables[launcher.size]}; the machine of the process with "
        f"{launcher.rank} 0 is needed{how}"
    )


def port_of(launcher: Launcher, variables: Mapping[str, str]) -> int:
    """Return the port of the first process; every step of every job of SLURM has its own by default."""
    if variables.get("MASTER_PORT"):
        port = number(variables, "MASTER_PORT")
        if not 0 < port < 2**16:
            raise InputError(f"MASTER_PORT is {port}; a port from 1 to 65535 is needed")
        return port
    if launcher is SRUN and "SLURM_JOB_ID" in variables:
        step = number(variables, "SLURM_STEP_ID") if "SLURM_STEP_ID" in variables else 0
        return 15000 + (number(variables, "SLURM_JOB_ID") + step) % 10000
    return PORT


def number(variables: Mapping[str, str], name: str) -> int:
    """Return a variable's value, a whole number of at least 0."""
    value = variables[name].strip()
    if not (value.isascii() and value.isdecimal()):
        raise InputError(f"{name} is {value[:80]!r}; a whole number is needed, as a launcher sets it; {ALONE}")
    return int(value)
