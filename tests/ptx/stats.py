"""What a launch asked of the machine."""


class Stats:
    """Exact counts of one launch.

    warp_instructions    instructions issued, one per warp and step
    read, written        bytes that global loads and stores asked for (caches not modelled)
    unique_read, unique_written   distinct bytes of the buffers touched: the least that HBM must move
    requests, sectors    warp-level global accesses, and the 32-byte sectors they touch; ideal_sectors if perfectly coalesced
    per_argument         for each array argument by position: (bytes read, bytes written), so that "read once" can be checked
    shared_accesses, bank_passes, ideal_passes   warp-level shared accesses, the passes they take with 32 banks of 4 bytes, and without conflicts
    matrix_flops         2 x multiply-adds done by mma
    barriers, ops        bar.sync per warp; instructions by name
    """

    def __init__(self):
        self.warp_instructions = self.read = self.written = self.requests = self.sectors = self.ideal_sectors = 0
        self.shared_accesses = self.bank_passes = self.ideal_passes = self.matrix_flops = self.barriers = 0
        self.per_argument = {}
        self.ops = {}
        self.unique_read = self.unique_written = 0

    def __repr__(self):
        eff = self.ideal_sectors / self.sectors if self.sectors else 1.0
        return (f"Stats(warp_instructions={self.warp_instructions:,}, read={self.read:,} B (distinct {self.unique_read:,}), written={self.written:,} B "
                f"(distinct {self.unique_written:,}), coalescing={eff:.2f}, bank conflicts={self.bank_passes / max(self.ideal_passes, 1):.2f}, "
                f"matrix_flops={self.matrix_flops:,}, barriers={self.barriers})")
