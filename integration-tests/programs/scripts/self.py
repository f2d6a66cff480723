import os, sys, traceback
print(sys.argv, __file__, sys.path[0])
stat = os.stat(__file__)
print(oct(stat.st_mode), stat.st_size, os.path.samefile(__file__, "/opt/app/self.py"))
with open(__file__) as own:
    print(own.readline(), own.read() != "", os.readlink(f"/proc/self/fd/{own.fileno()}"), own.seek(7), own.read(2))
try:
    [][1]
except IndexError:
    traceback.print_exc(file=sys.stdout)
pid = os.fork()
if pid == 0:
    with open(__file__) as own:
        os._exit(len(own.read()) % 200)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == stat.st_size % 200)
os.chdir("/tmp")
raise ValueError("told by the interpreter")
