"""The small programs that everything is made of: each does something to a file in its own way."""

from __future__ import annotations

from tests.programs.conftest import Both
from tests.programs.outcome import Desk

SCRIPT = r"""
set -eu
umask 022
seq 2000 > numbers
cp numbers other

echo "== replaced by way of another file"
sed -i.before 's/^7$/seven/' numbers
perl -i.old -pe 's/^9$/nine/' numbers
diff -u other numbers > change || true
patch -s --backup --version-control=numbered other change
cmp other numbers && ls -d other*
mv --backup=numbered other other.kept
cp numbers third; mv -b third numbers; ls -d numbers*
sort -r -S 32k -T . -o numbers numbers; head -n 2 numbers
echo added | tee -a numbers > /dev/null; tail -n 1 numbers

echo "== packed in place"
chmod 640 numbers; touch -d '2001-02-03 04:05:06.7 UTC' numbers
gzip numbers; stat -c '%n %a %y' numbers.gz; gzip -l numbers.gz | tail -n 1
gunzip numbers.gz; stat -c '%n %a %s %y' numbers
split -l 500 numbers part.; cat part.* | cmp - numbers && rm part.*

echo "== written in the middle, cut, filled"
dd if=/dev/zero of=numbers bs=100 seek=3 count=2 conv=notrunc,fsync status=none
cksum < numbers
truncate -s -50 numbers; truncate -s %4096 numbers; cksum < numbers
dd if=numbers of=direct bs=4096 iflag=direct oflag=direct status=none; cmp numbers direct
printf 'x' | dd of=sparse bs=1 seek=5000000 conv=sparse status=none; cksum < sparse
cp --sparse=always sparse copied; cmp sparse copied
shred -n 1 -u direct

echo "== modes, times, links"
install -D -m 711 other.kept bin/tool; stat -c '%a %n' bin bin/tool
touch -r numbers bin/tool; [ bin/tool -nt numbers ] || [ bin/tool -ot numbers ] || echo as old
cp -u numbers bin/tool; cp -pu other.kept bin/tool; stat -c %s bin/tool
ln -s other.kept link; ln -sfn numbers link; readlink link; [ link -ef numbers ] && echo same
cp -P link link2; cp -L link plain; stat -c '%F' link2 plain; realpath --relative-to=. link
chmod -R u=rwX,go= bin; chmod g+s bin; stat -c '%A %n' bin bin/tool; chgrp "$(id -g)" numbers
mkdir -m 700 private; mkdir -p deep/er/and/deeper; cp -r deep shallow
ln -s missing dangling; [ -e dangling ] || [ -L dangling ] && echo dangling

echo "== files without a name, folders under our feet"
exec 3<> nameless; echo one >&3; rm nameless; echo two >&3; cat /proc/self/fd/3; exec 3>&-
mkdir gone; (cd gone; rmdir ../gone; ls; touch x 2> /dev/null || echo nowhere)
(cd shallow; mv ../shallow ../moved; pwd -P | sed 's/.*\///'; touch here); ls moved

echo "== many"
mkdir many; (cd many; seq 300 | xargs touch; ls | wc -l; find . -name '*7' -delete; ls | wc -l)
(cd many; for name in 1*; do mv "$name" "to $name"; done; ls | cksum)
find many -type f -newermt 2001-01-01 | wc -l; rm -r many
i=0; while [ $i -lt 50 ]; do echo "$i" >> log; i=$((i + 1)); done; cksum < log
: > seen; tail -n 1 -f log >> seen & follower=$!
for i in 1 2 3; do echo "line $i" >> log; done
for i in $(seq 300); do [ "$(tail -n 1 seen)" = "line 3" ] && break; sleep 0.1; done
kill $follower; wait $follower 2> /dev/null || true; tail -n 1 seen; rm seen
"""


def test_small_programs_do_the_same(both: Both) -> None:
    def work(desk: Desk) -> None:
        desk.run("bash", "-c", SCRIPT)

    both(work, unlike={"change": "names the times of both files"})
