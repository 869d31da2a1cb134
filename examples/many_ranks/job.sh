#!/bin/bash
# A training on four nodes with Slurm: one rank for each NUMA domain, its cores as threads.
#   sbatch job.sh        begins, or goes on from the checkpoint of a job before it
#SBATCH --job-name=kalmandp
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300

source venv/bin/activate   # pip install "kalmandp[mpi]"; or mpi4py built with the centre's own MPI

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK
export OPENBLAS_NUM_THREADS=$SLURM_CPUS_PER_TASK

restart=""
[ -e run/model.ckpt.h5 ] && restart="--restart"

# TERM five minutes before the end: the step is finished and saved. A rank that dies ends all of them.
srun --kill-on-bad-exit=1 --cpu-bind=cores kalmandp train input.json -o run --skip-plots $restart
