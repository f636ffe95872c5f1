package main

const lockUsage = `Usage: keysmith-proxy lock [options] name [--] command [argument ...]
       keysmith-proxy lock [options] name -c 'shell command'

Runs a command while it holds the lock on name, as flock(1) does with a file, but
for all machines that use the same Redis. It connects to a running keysmith-proxy
(KS.LOCK name SESSION). What the command reads and writes is passed through; the
lock is released when the command ends, whatever way.

Where the proxy is, as in redis-cli:
  -h host           [127.0.0.1]
  -p port           [6380]
  -s socket         its Unix socket
  --db number       the database that the lock is in [0]
  --user name, --pass password (or -a)
                    credentials; better in REDISCLI_AUTH, for others see command lines
  --tls, --cacert file, --cert file, --key file, --sni host, --insecure

How to wait, as in flock(1) but for the unit of -w:
  -w time           how long to wait in line. Unlike in flock(1), a bare number is
                    milliseconds; 10s, 1m work, too
                    [ks-lock-wait of the proxy, which by default is as long as it takes]
  -n                don't wait
  -E status         exit status if the lock was not granted in time [1]
  -q                say nothing then

--on-loss term|kill|keep
                    What becomes of the command if the lock is lost while it runs (the
                    connection to the proxy breaks, or the proxy tells that the lock was
                    deleted or could not be renewed) [term]. It is said on stderr, too.
                    From that moment another may hold the lock. So the command is told
                    to stop (TERM) by default: a job that is cut short is seen and run
                    again, one that ran twice at once may go unnoticed. kill sends KILL,
                    for commands that ignore TERM; keep only says it, for those that had
                    better finish: check KS_LOCK_FENCE where they write, or use KS.GUARD.
                    On Linux the command gets the same signal if this process is killed
                    (kill -9), which releases the lock at once; elsewhere it runs on.

The command finds in its environment:
  KS_LOCK_NAME, KS_LOCK_TOKEN (proves ownership), KS_LOCK_FENCE (rises with each grant)

INT, TERM, HUP and QUIT are passed on to the command, whose end is waited for. While
waiting for the lock they end the wait. With no terminal (cron, systemd) the command
has a process group of its own, and all of it gets the signals. Processes that it
leaves behind run on without the lock.

Exit status: that of the command, 128+n if signal n ended it or the wait; 1 if the lock
was not granted (-E: not in time); 64 if this command line is wrong; 126 or 127 if the
command can't be run or does not exist, in which case nothing waits for the lock.

Examples:
  keysmith-proxy lock -n -q -E 0 jobs:nightly -- /usr/local/bin/nightly
  keysmith-proxy lock -w 10s deploy -c 'git pull && make install'
  REDISCLI_AUTH=secret keysmith-proxy lock -h proxy.internal jobs:report -- report --all
`
