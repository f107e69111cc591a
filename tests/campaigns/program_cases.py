"""Real programs for :mod:`programs`: shell scripts that say the same each time that they are run in an empty folder."""

from dataclasses import dataclass

__all__ = ["CASES", "STEADY", "Case"]


@dataclass(frozen=True)
class Case:
    """One program: `script` is run by bash in an empty folder, `needs` are programs that it is left out without."""

    name: str
    script: str
    needs: tuple[str, ...] = ()
    #: What is made natively before, in a folder that is $MADE; the sources are in $PROBES.
    made: str = ""


#: Programs of tests/programs/probes whose report and output are compared in each of ten runs.
STEADY = ("tasks_pthreads", "tasks_forks", "tasks_futexes", "tasks_queues", "real_threads", "real_openmp")

_MAKE = r"""
mkdir p; cd p
for i in $(seq 20); do echo "int f$i(int x) { return x * $i + 1; }" > f$i.c; all="$all f$i.o"; say="$say int f$i(int);"
call="x = f$i(x) % 1000003; $call"; done
echo "#include <stdio.h>
$say int main(void) { int x = 7; $call printf(\"%d\\n\", x); return x % 100; }" > main.c
printf 'p: main.o %s\n\t$(CC) -o $@ $^\n%%.o: %%.c\n\t@$(CC) -O1 -c -o $@ $<\n' "$all" > Makefile
make -j2; ./p; echo $?; make -j2; sleep 0.01; touch f3.c; make -j2; make -q; echo $?; sha256sum p
"""
_GIT = r"""
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
git config --global user.name A; git config --global user.email a@b; git config --global init.defaultBranch main
git init -q r; cd r; for i in $(seq 30); do seq $i 2000 > f$i; done; git add .; git commit -qm one
for i in $(seq 5); do echo $i >> f$i; git commit -qam $i; done; git checkout -qb side HEAD~3; echo s > f30
git commit -qam side; git checkout -q main; git merge -q -m joined side; cd ..; git clone -q r c; cd c; git gc -q
git status; git log --oneline --graph --all; git fsck; git diff HEAD~3 --stat; ls .git/objects/pack | wc -l
touch f1; git status --short; git stash list; git grep -c 1999 | tail -2
"""
_TAR = r"""
mkdir -p t/a/b; for i in $(seq 20); do seq $i 3000 > t/a/$i; ln -s $i t/a/l$i; ln t/a/$i t/a/b/h$i; done
tar cz --sort=name --owner=0 --group=0 -f t.tgz t; tar tzf t.tgz; mkdir u
tar xzf t.tgz -C u; diff -r t u/t && echo same
rsync -aHi t/ v/ | wc -l; rsync -aHi t/ v/; echo more >> t/a/3; touch -d @1000000000 t/a/3
rsync -aH --delete -i t/ v/; diff -r t v && echo same
tar cz t | tar xz -C v; rsync -aH --checksum t v; find v -newer t.tgz -name 3; gzip -t t.tgz; echo $?
"""
_REDIS = r"""
redis-server --port 0 --unixsocket s --save '' --daemonize no --io-threads 2 --logfile log & c='redis-cli -s s'
until $c ping 2> /dev/null; do sleep 0.1; done; redis-benchmark -s s -n 300 -c 5 -t set,get,incr,lpush,lrange_100 > out
grep -c 'requests completed\|requests per second' out; $c set a 1; $c incr a; $c rpush l x y z; $c lrange l 0 -1
$c eval 'return redis.call("get", KEYS[1]) + 40' 1 a; $c save; $c config get io-threads; $c get counter:__rand_int__
printf 'multi\nset b 5\nget b\nexec\n' | $c; $c dbsize; $c shutdown nosave; wait; test -e dump.rdb; echo $?
"""
_NGINX = r"""
mkdir w logs; seq 50000 > w/big; echo hi > w/index.html
echo 'worker_processes 2; daemon on; pid p; error_log err; events { worker_connections 64; }
http { access_log acc; client_body_temp_path 1; proxy_temp_path 2; fastcgi_temp_path 3;
uwsgi_temp_path 4; scgi_temp_path 5;
gzip on; gzip_types *; gzip_min_length 1; server { listen unix:s; root w;
location /p { proxy_pass http://unix:'$PWD'/s:/; }}}' > conf
nginx -p $PWD -c $PWD/conf -e err; c="curl -s --unix-socket s http://h"
$c/; $c/big | md5sum; $c/p; for i in 1 2 3 4 5 6 7 8; do $c/big | wc -l & done | sort | uniq -c; wait
$c/none -o /dev/null -w '%{http_code}\n'; $c/big -H 'Range: bytes=10-19'; $c/ --compressed
nginx -p $PWD -c $PWD/conf -s reload -e err
sleep 0.5; $c/; nginx -p $PWD -c $PWD/conf -s quit -e err; while test -e p; do sleep 0.1; done; wc -l < acc
cut -d' ' -f6- acc | sort | uniq -c; grep -c emerg err
"""
_SQLITE = r"""
sqlite3 d 'pragma journal_mode=wal; create table t(w, n, unique(w, n));'
for w in a b; do (for n in $(seq 8); do echo "begin immediate; insert into t values('$w', $n); commit;"; done |
sqlite3 -cmd '.timeout 60000' d) & done; wait
sqlite3 d 'select w, count(*), sum(n) from t group by w; pragma integrity_check;'
sqlite3 e 'create table t(x);'
for w in 1 2 3; do sqlite3 -cmd '.timeout 60000' e "insert into t values($w);" & done; wait
sqlite3 e 'select x from t order by x'
"""
_PYTHONS = {
    "threading": """
import threading, time
count, event, local = threading.Semaphore(3), threading.Event(), threading.local()
done, turn, bar = [], threading.Condition(), threading.Barrier(8)
def work(n):
    local.n = n
    with count: time.sleep(0.01)
    bar.wait()
    with turn:
        turn.wait_for(lambda: len(done) == local.n); done.append(n); turn.notify_all()
all = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[one.start() for one in all]; [one.join() for one in all]
threading.Timer(0.02, event.set).start(); print(done, event.wait(5), threading.active_count())""",
    "multiprocessing": """
import multiprocessing as m, os
def f(x): return x * x
def g(q, l, v):
    for n in range(50):
        with l: v.value += 1
    q.put(sum(range(1000)))
if __name__ == '__main__':
    with m.Pool(3) as p: print(p.map(f, range(20), 3), list(p.imap_unordered(f, [4])), p.apply_async(f, (5,)).get())
    q, l, v = m.Queue(), m.Lock(), m.Value('i', 0)
    all = [m.Process(target=g, args=(q, l, v)) for _ in range(4)]
    [one.start() for one in all]; print([q.get() for _ in all]); [one.join() for one in all]
    print(v.value, [one.exitcode for one in all])
    a, b = m.Pipe(); one = m.get_context('spawn').Process(target=b.send, args=('x',))
    one.start(); print(a.recv()); one.join()
    with m.Manager() as manager:
        d = manager.dict(); one = m.Process(target=d.update, args=({'k': 1},))
        one.start(); one.join(); print(dict(d))""",
    "subprocess": """
import subprocess as s, sys, signal
print(s.run(['sh', '-c', 'cat; echo no >&2; exit 3'], input=b'hi' * 40000, capture_output=True).returncode)
p = s.Popen(['sleep', '100']); p.terminate(); print(p.wait())
try: s.run(['sleep', '9'], timeout=0.05)
except s.TimeoutExpired as e: print(type(e), e.cmd)
a = s.Popen(['seq', '9999'], stdout=s.PIPE); b = s.Popen(['tail', '-1'], stdin=a.stdout, stdout=s.PIPE)
a.stdout.close(); print(b.communicate(), a.wait())
print([q.wait() for q in [s.Popen([sys.executable, '-Sc', f'raise SystemExit({n})']) for n in range(4)]])
print(s.getoutput('echo $0'))
p = s.Popen('kill -STOP $$; exit 5', shell=True); import os; print(os.waitpid(p.pid, os.WUNTRACED)[1])
p.send_signal(signal.SIGCONT); print(p.wait())""",
    "asyncio": """
import asyncio, time, threading
async def serve(r, w): w.write((await r.readline()).upper()); await w.drain(); w.close()
async def ask(n):
    r, w = await asyncio.open_unix_connection('s'); w.write(b'ask %d\\n' % n); return await r.read()
async def main():
    server = await asyncio.start_unix_server(serve, 's')
    print(await asyncio.gather(*map(ask, range(9))), await asyncio.to_thread(lambda: threading.active_count()))
    p = await asyncio.create_subprocess_exec('sh', '-c', 'read x; echo got $x', stdin=-1, stdout=-1)
    print(await p.communicate(b'it\\n'), p.returncode)
    loop, seen = asyncio.get_running_loop(), []
    loop.call_later(0.02, seen.append, 2); loop.call_later(0.01, seen.append, 1)
    threading.Thread(target=lambda: loop.call_soon_threadsafe(seen.append, 0)).start()
    await asyncio.sleep(0.05); print(seen)
    try: await asyncio.wait_for(asyncio.sleep(9), 0.01)
    except asyncio.TimeoutError: print('late')
    print(await asyncio.gather(*(loop.run_in_executor(None, time.sleep, 0.01) for _ in range(20)))); server.close()
asyncio.run(main())""",
    "futures": """
import concurrent.futures as c, time
def f(n): return sum(i * i for i in range(n))
if __name__ == '__main__':
    with c.ProcessPoolExecutor(3) as p: print(sum(p.map(f, range(60), chunksize=7)))
    with c.ThreadPoolExecutor(5) as p:
        print(sorted(x.result() for x in c.as_completed([p.submit(f, n) for n in range(30)]))[-1])
        slow = p.submit(time.sleep, 0.05)
        print(len(c.wait([slow, p.submit(f, 2)], return_when='FIRST_COMPLETED').done))""",
}
_PERL = r"""perl -e '$|=1; system("echo", "one"); print `echo two; exit 3`, $? >> 8, "\n";
open(P, "-|", "seq 3"); print <P>; close P;
pipe(R, W); if (!($p = fork)) { close R; print W "child\n"; exit 4 } close W; print <R>;
waitpid $p, 0; print $? >> 8, "\n";
$SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select undef, undef, undef, 5;
local $SIG{CHLD} = sub { wait }; system "kill -9 \$\$"
; print "$?\n"; exec "echo", "last"'"""


def _python(name: str, text: str) -> Case:
    return Case(f"python-{name}", f"cat > s.py <<'E'\n{text}\nE\nexec $PYTHON -S s.py")


def _compiled(name: str, *words: str) -> Case:
    build = f"gcc -O1 -w {' '.join(words)} $PROBES/{name}.c -o $MADE/program -lrt"
    return Case(name, "$MADE/program", ("gcc",), build)


CASES = (
    Case("make", _MAKE, ("make", "gcc")),
    Case("git", _GIT, ("git",)),
    Case("tar-rsync", _TAR, ("rsync",)),
    Case(
        "find-xargs",
        r"""mkdir -p a/b; seq 40 | xargs -P4 -n3 sh -c 'for i; do echo $i > a/b/$i; done' x
find a -type f -exec cat {} + | sort -n | tail -1
find a -name '1*' -exec sh -c 'echo $1' x {} \; | sort; find a -type f -print0 | xargs -0 -P4 -n5 md5sum | sort
find a -name 3 -delete
echo a b | xargs -n1 sh -c 'exit 255'; echo $?; ls a/b | wc -l""",
    ),
    *(_python(name, text) for name, text in _PYTHONS.items()),
    Case("perl", _PERL, ("perl",)),
    _compiled("real_threads", "-pthread"),
    _compiled("real_openmp", "-fopenmp"),
    Case("redis", _REDIS, ("redis-server",)),
    Case("nginx", _NGINX, ("nginx", "curl")),
    Case("sqlite", _SQLITE, ("sqlite3",)),
    Case("xz", "seq 200000 > a; xz -T2 --block-size=200KiB -1 -k a; md5sum a.xz; xz -dcT2 a.xz | cmp - a", ("xz",)),
    Case("go", "$MADE/program", ("go",), "HOME=$MADE go build -o $MADE/program $PROBES/real_program.go"),
    Case("node", "node $PROBES/real_program.js", ("node",)),
    # Without the file that it has in /tmp for its number: guests side by side have the same numbers.
    Case(
        "java",
        "java -XX:-UsePerfData -cp $MADE RealProgram",
        ("javac", "java"),
        "javac -d $MADE $PROBES/RealProgram.java",
    ),
)  # fmt: skip
