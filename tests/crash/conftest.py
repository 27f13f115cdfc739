"""Where there is no C compiler, LMDB's own faults cannot be made; all else here needs none."""

import shutil

collect_ignore = [] if shutil.which("cc") else ["test_lmdb_faults.py"]
