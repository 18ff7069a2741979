// Prints what the preflight says to this process.
import { KernelFeatures } from '../../../../exporter/kernel/features.ts';

process.stdout.write(JSON.stringify(new KernelFeatures().preflight() ?? null));
