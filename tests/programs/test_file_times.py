"""Times of files on the guest's clock: in the order of the changes, never later than now; what it gives is kept."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from limits import PATIENCE
from native import execute, need, quire, same

#: Each says the same natively.
SCRIPTS = {
    "newer": """
touch a; sleep 0.01; echo > b; sleep 0.01; mkdir c; sleep 0.01; ln -s a d; sleep 0.01; mv a e; sleep 0.01; chmod 600 b
stat -c '%.9Z %n' c d e b | sort -n | cut -d' ' -f2; [ b -nt e ] && [ c -nt b ] && echo newer
find . -newer b | sort; sleep 0.01; : >> e; find . -newer b | sort; stat -c '%.9Y %n' . d e | sort | cut -d' ' -f2""",
    "loop": """
for i in 1 2 3 4 5 6 7 8 9; do touch $i; sleep 0.01; done
stat -c '%.9Y %n' ? | sort -n | cut -d' ' -f2 | tr -d '\\n'; stat -c %y ? | sort -u | wc -l""",
    "access": """
echo > a; sleep 0.01; cat a; [ "$(stat -c %.9X a)" '>' "$(stat -c %.9Y a)" ] && echo read; stat -c %Y a > b
[ "$(stat -c %.9W b)" '>' "$(stat -c %.9Y a)" ] && echo born""",
    "past": """
for i in a b c; do echo $i > $i; now=$(date +%s.%N); for j in %.9X %.9Y %.9Z %.9W; do
t=$(stat -c $j $i); [ "$t" '>' "$now" ] && echo $i $j $t is after $now; done; done; sleep 1; now=$(date +%s)
touch a; t=$(stat -c %Y a); echo $((t >= now)) $((t <= $(date +%s)))""",
    "given": """
touch -d @2000000000.123456789 a; touch -d @1000000000.5 b; stat -c '%n %.9Y %.9X' a b
touch -r a c; sleep 0.01; cp -p a d
now=$(date +%s.%N); sleep 2; touch -d @$now e; [ $(stat -c %.9Y e) = $now ] && echo kept; sleep 1
touch -d @2000000000.25 g; touch -m g; stat -c '%n %.9X' g
cp -p e f; [ "$(stat -c %.9Y f)" = $now ] && echo copied; stat -c %.9Y c d""",
    "tar": "mkdir t; seq 20000 > t/a; seq 30000 > t/b; tar cf t.tar t; rm -r t; tar xf t.tar; tar df t.tar && ls t",
    "make": """
printf 'out: in\\n\\tsleep 0.01; cp in out; echo > other\\n' > Makefile
echo one > in; make; make; sleep 0.01; echo two > in; make; make; sleep 0.01; touch out; make""",
    "rsync": "mkdir a; seq 9000 > a/b; sleep 1; rsync -ai a/ c; sleep 1; rsync -ai a/ c; seq 99 > a/b; rsync -ai a/ c",
}
ORDER = """
for i in 1 2 3; do seq 20000 > $i; sleep 0.0$i; mkdir d$i; cat $i > /dev/null; mv $i d$i; touch d$i/x; done
f=$(stat -c '%.9X %.9Y %.9Z %.9W' d1/1 | tr -d . | cut -d' ' -f4)
for i in $(stat -c '%.9X %.9Y %.9Z %.9W' d*/* d* | tr -d .); do echo $((i - f)); done"""
C_PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static long at(struct timespec t) { return t.tv_sec * 1000000000 + t.tv_nsec; }
static long now(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return at(t); }
static struct stat of(int fd) { struct stat s; fstat(fd, &s); return s; }

int main(void)
{
	struct timespec ten = {0, 20000000};
	int fd = open("file", O_RDWR | O_CREAT, 0600);
	ftruncate(fd, 8192);
	long made = at(of(fd).st_mtim), before = now();
	nanosleep(&ten, 0);
	char *page = mmap(0, 8192, 3, MAP_SHARED, fd, 0);
	page[5000] = 1;
	msync(page, 8192, MS_SYNC);
	long mapped = at(of(fd).st_mtim);
	printf("mapped %d %d\n", mapped > made, mapped <= now());
	nanosleep(&ten, 0);
	struct timespec times[2] = {{5, UTIME_OMIT}, {5, UTIME_NOW}};
	futimens(fd, times);
	printf("now %d %d\n", at(of(fd).st_mtim) > before, at(of(fd).st_mtim) <= now());
	times[1] = (struct timespec){now() / 1000000000, 123456789};
	futimens(fd, times);
	printf("timespec %d\n", at(of(fd).st_mtim) == at(times[1]));
	struct timeval values[2] = {{times[1].tv_sec, 1}, {times[1].tv_sec, 999999}};
	utimes("file", values);
	printf("timeval %ld %ld\n", of(fd).st_atim.tv_nsec, of(fd).st_mtim.tv_nsec);
	sleep(1);
	struct utimbuf two = {values[0].tv_sec + 1, values[0].tv_sec + 1};
	utime("file", &two);
	printf("utimbuf %ld %ld\n", at(of(fd).st_atim) - at((struct timespec){two.actime, 0}), of(fd).st_mtim.tv_nsec);
	struct statx x;
	statx(fd, "", AT_EMPTY_PATH, STATX_ALL, &x);
	printf("statx %d\n", x.stx_ctime.tv_sec == of(fd).st_ctim.tv_sec && x.stx_ctime.tv_nsec == of(fd).st_ctim.tv_nsec);
	printf("born %d\n", x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec <= made);
	long last = 0;
	for (int i = 0; i < 2000; i++) {
		pwrite(fd, "x", 1, 0);
		long time = at(of(fd).st_mtim);
		if (time < last || time > now())
			printf("write %d: %ld after %ld, now %ld\n", i, time, last, now());
		last = time;
	}
}
"""


def _both(command: list[str], tmp_path: Path, *options: str) -> None:
    for place in ("native", "guest"):
        (tmp_path / place).mkdir()
    expected = execute(command, cwd=tmp_path / "native")
    same(quire(command, "--report", "none", *options, cwd=tmp_path / "guest"), expected)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str, tmp_path: Path) -> None:
    if name in ("make", "rsync", "tar"):
        need(name)
    _both([shutil.which("bash") or need("sh"), "-c", SCRIPTS[name]], tmp_path)


@pytest.mark.parametrize("options", [("--vcpus", "4"), ("--clock", "host")], ids=" ".join)
def test_a_program(options: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(C_PROGRAM)
    words = [need("gcc"), "-w", tmp_path / "program.c", "-o", tmp_path / "program"]
    subprocess.run(words, check=True, timeout=PATIENCE)
    _both([str(tmp_path / "program")], tmp_path, *options)


def test_the_same_in_each_run(tmp_path: Path) -> None:
    found = set()
    for number, vcpus in itertools.product(range(2), "12"):
        place = tmp_path / f"{number}-{vcpus}"
        place.mkdir()
        ran = quire([need("sh"), "-c", ORDER], "--report", "none", "--vcpus", vcpus, cwd=place)
        assert (ran.status, ran.stderr) == (0, b"")
        assert len(ran.stdout.split()) == 4 * 9
        found.add((vcpus, ran.stdout))
    assert len(found) == 2
