#!/bin/bash
cd /work/wt/ref; export PATH=$PWD/.venv/bin:$PATH
S=$1
while pgrep -f "bin/snakemake --cores 2" > /dev/null; do sleep 5; done
t=$(python - $S <<'P'
import itertools,sys
s=sys.argv[1]
p=["clip","siglip","dinov2","convnext","sam"]
sub=["+".join(c) for r in range(5,0,-1) for c in itertools.combinations(p,r)]
R="results/reference"
out=[f"{R}/predictions/{x}/seed{s}/{x}.unmasked" for x in sub]+[f"{R}/predictions/blind/seed{s}/none.unmasked"]
out+=[f"{R}/models/{x}/seed{s}/ranks.csv" for x in sub]
out+=[f"{R}/predictions/{sub[0]}/seed{s}/{m}.{o}" for o in ("zero","mean") for m in sub[1:]+["none"]]
print(" ".join(out))
P
)
snakemake --cores 2 --rerun-incomplete --configfile studies/reference.yaml -- $t >> /tmp/ref_eval.log 2>&1
echo done $? >> /tmp/ref_eval.log
