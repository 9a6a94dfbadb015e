#!/bin/bash
# aictl submit job.sh: runs on Slurm, Ray and Kubernetes alike. What #AICTL says wins over #SBATCH.
#SBATCH --job-name=pretrain --nodes=4 --gres=gpu:8
#SBATCH --time=12:00:00 --mem=512G
#AICTL --image ghcr.io/example/train:1 --queue research
set -e
echo "node $NODE_RANK of $NNODES, first is $MASTER_ADDR:$MASTER_PORT"
exec torchrun train.py --epochs 3
