/* Extended attributes: only errors that do not depend on the file system. */
#include "facts.h"
#include <sys/xattr.h>
int main(void) {
    begin();
    char b[64], longname[300];
    memset(longname, 'x', 299); memcpy(longname, "user.", 5); longname[299] = 0;
    int fd = creat("f", 0600);
    say("get missing file", getxattr("none", "user.x", b, 8));
    say("get long name", getxattr("f", longname, b, 8));
    say("get empty name", getxattr("f", "", b, 8));
    say("fget closed", fgetxattr(99, "user.x", b, 8));
    say("set no namespace", setxattr("f", "plain", "v", 1, 0));
    say("set bad flag", setxattr("f", "user.x", "v", 1, 64));
    say("set too long", fsetxattr(fd, "user.x", b, 100000, 0));
    say("wild name", syscall(SYS_getxattr, "f", WILD, b, 8));
    say("list missing", listxattr("none", b, 8));
    say("remove missing file", removexattr("none", "user.x"));
    unlink("f");
}
