import { useEffect, useState } from 'react';

export type Theme = 'light' | 'dark';

const storageKey = 'pilotlight-theme';

/** The theme in use: as the system has it, until somebody chooses on this page. */
export function useTheme(): { theme: Theme; toggle: () => void } {
  const [chosen, setChosen] = useState(() => readChoice());
  const [isSystemDark, setSystemDark] = useState(() => systemDark().matches);

  useEffect(() => {
    const query = systemDark();
    const changed = () => setSystemDark(query.matches);
    query.addEventListener('change', changed);
    return () => query.removeEventListener('change', changed);
  }, []);

  const theme = chosen ?? (isSystemDark ? 'dark' : 'light');
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);

  function toggle(): void {
    const next = theme === 'dark' ? 'light' : 'dark';
    localStorage.setItem(storageKey, next);
    setChosen(next);
  }
  return { theme, toggle };
}

function readChoice(): Theme | null {
  const stored = localStorage.getItem(storageKey);
  return stored === 'light' || stored === 'dark' ? stored : null;
}

function systemDark(): MediaQueryList {
  return matchMedia('(prefers-color-scheme: dark)');
}
