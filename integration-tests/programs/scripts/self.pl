use strict;
print "$0 @ARGV\n", -s $0, -f _ ? " file\n" : " none\n";
open(my $own, "<", $0) or die;
print scalar(<$own>);
seek($own, 4, 0); read($own, my $word, 6); print "$word\n";
print while <DATA>;
seek(DATA, 0, 0); print scalar(<DATA>);
die "told";
__DATA__
data
more data
