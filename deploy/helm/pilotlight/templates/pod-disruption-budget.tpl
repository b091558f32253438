apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "pilotlight.name" . }}
  labels: {{- include "pilotlight.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{- include "pilotlight.selector" . | nindent 6 }}
