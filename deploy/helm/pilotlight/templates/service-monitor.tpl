{{- if .Values.serviceMonitor.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "pilotlight.name" . }}
  labels: {{- include "pilotlight.labels" . | nindent 4 }}
spec:
  selector:
    matchLabels: {{- include "pilotlight.selector" . | nindent 6 }}
  endpoints:
    - port: http
      path: /metrics
      interval: {{ .Values.serviceMonitor.interval }}
{{- end }}
